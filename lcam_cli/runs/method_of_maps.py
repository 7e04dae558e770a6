"""Making again the method that a maps file was made with, of what the file records. Imports torch.

Files come from strangers: what one says of a method is checked, and so are the maps that come of it
(:mod:`lcam_cli.measures.made_again`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard, get_args

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.contrast import Contrast
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.record import MapsInfo
from lcam_cli.measures.made_again import check_makes_maps
from lcam_cli.measures.measure import Measure
from lcam_cli.methods.attention_file import (
    check_fits,
    find_attention,
    holds_trained_head,
    load_attention,
    trained_files,
)
from lcam_cli.methods.base import Method
from lcam_cli.methods.fused import Fuse
from lcam_cli.methods.lent import NetworkChangedError
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import make_method
from lcam_cli.methods.rise import Rise
from lcam_cli.methods.tame import Tame, layers_of
from lcam_cli.methods.tame_file import settled
from lcam_cli.methods.trained import is_trained, method_of, names_of
from lcam_cli.networks.weights.checkpoint import sha256_of_file
from lcam_cli.runs import checks as c
from lcam_cli.runs.evaluate_options import EvaluateOptions
from lcam_cli.runs.options import LARGEST_SEED
from lcam_cli.runs.reporter import Reporter

_MOST_CELLS = 10**8
"""Cells of RISE's masks that a file may ask for: it does not choose how much memory is taken."""


def measures_with_method(
    measures: list[Measure],
    maps: MapsFile,
    options: EvaluateOptions,
    engine: Engine,
    readers: int,
    reporter: Reporter,
) -> tuple[list[Measure], Method | None]:
    """Find the method for the measures that have it explain again, where there are any.

    Args:
        measures: What is to be measured.
        maps: The file.
        options: What was asked for.
        engine: The engine with the file's classifier, which places maps as the file's are.
        readers: Processes that read images.
        reporter: Is told what is left out.

    Returns:
        What can be measured, and the method; None where no measure needs it.

    Raises:
        LcamError: A measure that was asked for by name needs the method, which cannot be made
            again, or makes other maps than the file's.
    """
    again = [measure.name for measure in measures if measure.explains_again]
    if not again:
        if options.attention is not None:
            reporter.warn(
                f"--attention {options.attention} is not used: no measure of this run explains "
                "again"
            )
        return measures, None
    try:
        method = method_of_maps(
            str(maps.path), maps.info, engine.backbone, options.attention, options.backbone.weights
        )
        check_makes_maps(
            engine,
            method,
            maps,
            images=options.images,
            workers=readers,
            max_pixels=options.engine.max_pixels or MAX_PIXELS,
        )
    except NetworkChangedError:
        raise
    except LcamError as error:
        named = [name for name in again if name in options.metrics]
        if named:
            raise LcamError(f"{', '.join(named)}: {error.what}", error.hint) from error
        reporter.warn(f"skipped {', '.join(again)}: {error.what}")
        return [measure for measure in measures if not measure.explains_again], None
    return measures, method


def method_of_maps(
    source: str,
    info: MapsInfo,
    backbone: Backbone,
    attention: Path | None = None,
    weights: str | None = None,
) -> Method:
    """Make the method again.

    Args:
        source: The maps file, for messages.
        info: What it records.
        backbone: Its classifier.
        attention: Where a trained attention is, a file or a run's folder; None to look under
            ``runs/`` for the one that is recorded.
        weights: The classifier's weights as typed: a run with a trained head is an attention too.

    Raises:
        LcamError: There is no such method here, its attention is not found, or its settings cannot
            be made.
    """
    if is_trained(info.method):
        return _trained_method(source, info, backbone, attention, weights)
    if attention is not None:
        raise LcamError(
            f"--attention cannot be used with maps of {info.method}", "remove --attention"
        )
    return _made_method(source, info, backbone)


def _trained_method(
    source: str,
    info: MapsInfo,
    backbone: Backbone,
    attention: Path | None,
    weights: str | None,
) -> Method:
    wanted = info.method_params.get("attention")
    if attention is not None:
        path = find_attention(attention)
        if isinstance(wanted, str) and sha256_of_file(path) != wanted:
            raise LcamError(
                f"{source} was made with another attention than {path}",
                f"pass the one with SHA-256 {wanted.removeprefix('sha256:')[:12]}…",
            )
    else:
        known = _known_attentions(info, weights)
        found = next((one for one in known if sha256_of_file(one) == wanted), None)
        if found is None:
            raise LcamError(
                f"the attention that {source} was made with is not in runs/",
                "pass its file: --attention FILE",
            )
        path = found
    file = load_attention(path)
    if file.origin is not None and isinstance(file.attention, Tame):
        recorded = info.method_params.get("training")
        layers = layers_of(recorded) if isinstance(recorded, dict) else []
        origin = settled(str(path), file.attention, file.origin, backbone.identity.name, layers)
        file = replace(file, origin=origin)
    check_fits(file, backbone)
    # A comparison adds the run's folder where several rows have one name.
    name = info.method.partition(" ")[0]
    if name not in names_of(file):
        raise LcamError(
            f"{path} is not an attention of {name}", f"use one of {', '.join(names_of(file))}"
        )
    return method_of(file, name)


def _known_attentions(info: MapsInfo, weights: str | None) -> Iterator[Path]:
    """Attention files that the recorded one may be: those of runs, and heads of classifiers."""
    yield from trained_files()
    for name in (weights, info.weights_file):
        if name and holds_trained_head(Path(name)):
            yield Path(name)


def _made_method(source: str, info: MapsInfo, backbone: Backbone) -> Method:
    recorded = info.method_params
    try:
        made = make_method(info.method, backbone, options=_options(source, info))
    except LcamError as error:
        raise LcamError(
            f"{info.method}, which made {source}, cannot be created again: {error.what}",
            "install the package that provides it, or use measures that do not need it",
        ) from error
    for name, value in made.params.items():
        there = recorded.get(name, value)
        if json.dumps(there) != json.dumps(value):  # as JSON, where a tuple is a list
            raise LcamError(
                f"{source} was made by {info.method} with {name} {there!r}, but here "
                f"it is {value!r}",
                "use measures that do not explain again",
            )
    return made


def _options(source: str, info: MapsInfo) -> MethodOptions:
    """The settings that methods are made with, of those that a file records."""
    recorded = info.method_params
    seed = recorded.get("seed")
    options = MethodOptions(seed if _is_seed(seed) else MethodOptions.seed)
    if "contrast" in recorded:
        contrast = c.checked(f"contrast of {source}", recorded["contrast"], c.text)
        options = replace(options, contrast=Contrast.parse(contrast))
    if "fuse" in recorded:
        fuse = c.checked(f"fuse of {source}", recorded["fuse"], c.choice(*get_args(Fuse)))
        layers = c.checked(f"layers of {source}", recorded.get("layers"), c.names)
        options = replace(options, fuse=fuse, layers=layers)
    if info.method != Rise.name:
        return options

    def setting(name: str, check: c.Check, default: Any) -> Any:
        return c.checked(f"{name} of rise in {source}", recorded.get(name, default), check)

    masks = setting("masks", c.whole(1, _MOST_CELLS), None)
    cells = setting("cells", c.whole(1, _MOST_CELLS), options.rise_cells)
    if masks * cells**2 > _MOST_CELLS:
        raise LcamError(
            f"{source} is of {masks} masks of {cells}×{cells} cells", "that is too many"
        )
    p = setting("p", c.number(0, 1), options.rise_p)
    return replace(options, rise_masks=masks, rise_cells=cells, rise_p=p)


def _is_seed(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED
