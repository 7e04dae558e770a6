"""A sanity check from its beginning to its table and figure. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from lcam_cli.engine.cascade import Cascade
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.marks import mark_figure
from lcam_cli.maps.record import why_tiled
from lcam_cli.measures.redrawn_methods import RedrawnMethods, read_examples
from lcam_cli.measures.sanity import check_sanity, maps_a_picture
from lcam_cli.measures.similarity import SanityNumbers
from lcam_cli.methods.base import Method
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.placing import grid_of_maps
from lcam_cli.methods.registry import make_method
from lcam_cli.methods.trained import is_trained
from lcam_cli.reports.output import rendered
from lcam_cli.reports.results import FLOOR
from lcam_cli.reports.sanity import (
    TEXT_FORMATS,
    SanityReport,
    SanityRow,
    left_out_words,
    to_json,
    to_rich,
)
from lcam_cli.reports.sanity_figure import draw_sanity, pictures_drawn
from lcam_cli.runs.candidates import choose_candidates
from lcam_cli.runs.engine import new_engine, place_maps
from lcam_cli.runs.log import log_to
from lcam_cli.runs.pictures import find_pictures
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import write_results
from lcam_cli.runs.sanity_options import SanityOptions
from lcam_cli.runs.skipped import SkippedPictures
from lcam_cli.runs.stop import Stop


@dataclass(frozen=True)
class SanityResult:
    """What became of a sanity check.

    Attributes:
        results: The rows; None where the run was stopped.
        missed_gates: A message for every method that is too similar.
        left_out: Methods of groups that cannot explain this network.
        failed: Methods of groups that can, and failed on every image.
        skipped: How many inputs were left out.
        skipped_what: What is the matter with them, as the end of a sentence.
    """

    results: SanityReport | None
    missed_gates: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    skipped: int = 0
    skipped_what: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped before its end."""
        return self.results is None

    def to_dict(self) -> dict[str, Any] | None:
        """Return the results as plain data, the JSON object ``lcam-sanity/1``, if any."""
        return None if self.results is None else json.loads(to_json(self.results))


def sanity(
    inputs: Sequence[str],
    options: SanityOptions,
    readers: int,
    reporter: Reporter,
    stop: Stop,
) -> SanityResult:
    """Check methods; see :func:`~lcam_cli.runs.sanity.sanity_check`."""
    with ExitStack() as held:
        held.enter_context(narrow_pictures.reported_to(reporter.warn))
        held.enter_context(log_to(reporter))
        settings = MethodOptions(
            options.seed, options.rise_masks, options.rise_cells, options.rise_p
        )
        chosen = choose_candidates(
            None if options.methods is None else list(options.methods),
            options.attentions,
            options.backbone,
            settings,
            floor=options.floor,
            reporter=reporter,
            redrawable=True,
        )
        network = chosen.backbone
        # Before the network moves to its device: weights are drawn on the CPU.
        cascade = Cascade(network.network, network.blank(), options.stages, options.seed)
        found = find_pictures(inputs, options.pictures, reporter, options.seed)
        engine = new_engine(network, options.engine.for_measures(), reporter)
        place_maps(engine, chosen.methods.values(), options.align, reporter)
        for note in cascade.notes:
            reporter.warn(note)
        skipped = SkippedPictures(reporter, options.pictures.strict)
        for item in found.skipped:
            skipped(item)
        max_pixels = options.engine.max_pixels or MAX_PIXELS
        examples = read_examples(
            found.paths, network.preprocess, workers=readers, max_pixels=max_pixels
        )
        methods = RedrawnMethods(
            engine, cascade, chosen.methods, _maker(engine, settings, options.align), examples
        )
        drawn = 0 if options.figure is None else pictures_drawn(len(_in_figure(methods.names)))
        total = len(found.paths) * maps_a_picture(methods)
        with reporter.progress(total, "sanity", "maps") as progress:
            numbers = check_sanity(
                methods,
                found.paths,
                workers=readers,
                max_pixels=max_pixels,
                shown=drawn,
                advance=progress.advance,
                skip=skipped,
                stop=stop,
            )
        if stop.stopped:
            return SanityResult(None)
        failed = _leave_out_failed(numbers, options.methods or (), reporter)
        results = _results(numbers, failed, methods, options, skipped.count)
        for words in left_out_words(results):
            reporter.warn(words)
        if options.figure is not None:
            shown = [name for name in _in_figure(methods.names) if name not in failed]
            draw_sanity(options.figure, numbers.shown, shown, cascade.stages, network.class_names)
            mark_figure(options.figure, found.root)
            reporter.info(f"drew some of the maps in {options.figure}")
        write_results(options.results, partial(rendered, TEXT_FORMATS, to_rich, results), reporter)
        return SanityResult(
            results,
            tuple(results.missed_gates(options.max_similarity)),
            tuple(chosen.left_out),
            tuple(failed),
            skipped.count,
            skipped.what,
        )


def _maker(engine: Engine, settings: MethodOptions, align: bool) -> Callable[[str], Method | None]:
    """What makes a method anew, by its name; it gives None for one that was trained."""

    def make(name: str) -> Method | None:
        if is_trained(name):
            return None
        method = make_method(name, engine.backbone, options=settings)
        place_maps(engine, [method], align, _SILENT)
        return method

    return make


_SILENT = Reporter(on_warning=lambda _line: None)
"""What is said of a method is said once, when it is first made."""


def _in_figure(names: Sequence[str]) -> list[str]:
    """The methods that are drawn: noise is not."""
    return [name for name in names if name != FLOOR] or list(names)


def _leave_out_failed(
    numbers: SanityNumbers, named: Sequence[str], reporter: Reporter
) -> dict[str, str]:
    """Go on without the methods that explained nothing; return them with the reason.

    Raises:
        LcamError: One of them was asked for, or none explained anything.
    """
    failed = {
        name: numbers.failures.get(name, "its maps are not finite")
        for name, explains in zip(numbers.methods, numbers.explains, strict=True)
        if not explains
    }
    for name, why in failed.items():
        if name in named or len(failed) == len(numbers.methods):
            raise LcamError(
                f"{name} could not explain any image: {why}", "remove it from --methods"
            )
        reporter.warn(f"skipped {name}: {why}")
    return failed


def _results(
    numbers: SanityNumbers,
    failed: dict[str, str],
    methods: RedrawnMethods,
    options: SanityOptions,
    skipped: int,
) -> SanityReport:
    engine = methods.engine
    identity = engine.backbone.identity
    has_second = engine.backbone.num_classes > 1
    found = numbers.similarities(options.seed)
    return SanityReport(
        backbone=identity.name,
        weights=identity.weights,
        layer=identity.layer,
        images=numbers.images,
        skipped=skipped,
        seed=options.seed,
        precision=engine.hardware.precision,
        device=engine.hardware.name,
        stages=methods.cascade.stages,
        rows=[
            SanityRow(
                name,
                similarities[:-1],
                similarities[-1] if has_second else None,
                align=grid_of_maps(engine, methods.first[name]) is not None,
                tiled=why_tiled(methods.first[name].params),
            )
            for name, similarities in found.items()
            if name not in failed
        ],
    )
