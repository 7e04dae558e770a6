"""Which methods ``lcam compare`` compares, and on what backbone. Imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.identity import Identity
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import (
    AttentionFile,
    check_fits,
    find_attention,
    load_attention,
    trained_files,
)
from lcam_cli.methods.base import Method
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import find_method, known_methods, make_method
from lcam_cli.methods.trained import (
    LCAM,
    fits_name,
    is_trained,
    method_of,
    names_of,
)
from lcam_cli.reports.results import FLOOR
from lcam_cli.runs.backbone import backbone_of_file, new_backbone
from lcam_cli.runs.newest_run import newest_run
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.other_fit import check_one_fit, note_other_fit
from lcam_cli.runs.reporter import Reporter

ALL = "all"


@dataclass
class Candidates:
    """The methods of a comparison.

    Attributes:
        backbone: The classifier that all of them explain.
        methods: The methods by the name of their row, in the order of the rows.
        left_out: Methods of ``--methods all`` that cannot explain this classifier.
    """

    backbone: Backbone
    methods: dict[str, Method]
    left_out: list[str] = field(default_factory=list)


def choose_candidates(
    names: list[str] | None,
    attentions: Sequence[Path],
    backbone_options: BackboneOptions,
    method_options: MethodOptions,
    *,
    floor: bool,
    reporter: Reporter,
    redrawable: bool = False,
) -> Candidates:
    """Find the methods and load the backbone.

    Args:
        names: As typed; None for every method of one forward pass, ``["all"]`` for every method.
        attentions: Trained attentions named by the user.
        backbone_options: The backbone as typed.
        method_options: What methods are made with.
        floor: Whether ``random`` is compared too.
        reporter: Is told what is left out.
        redrawable: Whether the backbone's weights will be drawn anew.

    Raises:
        LcamError: A method, attention or backbone does not exist or does not fit.
    """
    explicit = names is not None and names != [ALL]
    wanted = names if names is not None and explicit else [LCAM, *known_methods()]
    for name in wanted:
        if not is_trained(name):
            find_method(name)  # a mistyped name is told before a backbone is downloaded
    files = _attention_files(wanted, attentions, backbone_options, explicit, reporter)
    note_other_fit(files, backbone_options.fit, reporter)
    backbone = _backbone(files, backbone_options, method_options.seed, redrawable)
    trained = _trained(files)
    chosen = Candidates(backbone, {})
    reasons: dict[str, dict[str, str]] = {}
    for name in [*_not_named(trained, wanted), *wanted]:
        if is_trained(name) or name in trained:
            chosen.methods |= {row: m for row, m in trained.items() if fits_name(row, name)}
        elif name != FLOOR or explicit:
            try:
                method = make_method(name, backbone, options=method_options)
            except LcamError as error:
                if names is not None and names != [ALL]:
                    raise
                # Methods that fail for one reason differ in their own name alone.
                same = reasons.setdefault(error.what.removeprefix(f"{name} "), {})
                same[name] = error.what
                continue
            if names is not None or method.forward_passes == 1:
                chosen.methods[name] = method
    _say_left_out(reasons, names, chosen, reporter)
    if not chosen.methods:
        raise LcamError("no methods to compare", "name some, e.g. --methods gradcam,rise")
    if floor and FLOOR not in chosen.methods:
        chosen.methods[FLOOR] = make_method(FLOOR, backbone, options=method_options)
    return chosen


def _say_left_out(
    reasons: Mapping[str, Mapping[str, str]],
    names: list[str] | None,
    chosen: Candidates,
    reporter: Reporter,
) -> None:
    """Say which methods cannot explain this backbone: those of one reason in one line.

    Args:
        reasons: By what their errors share, the names of methods and their errors.
        names: As typed.
        chosen: Has those that were asked for noted as left out.
        reporter: Is told.
    """
    for shared, errors in reasons.items():
        listed = ", ".join(errors)
        own = errors.get(listed, shared)  # of one method, the error as it is
        reason = own if own in errors.values() else f"each {shared}"
        if names == [ALL]:
            reporter.warn(f"left out {listed}: {reason}")
            chosen.left_out += errors
        else:
            reporter.info(f"without {listed}: {reason}")


def _not_named(trained: dict[str, Method], wanted: list[str]) -> list[str]:
    """The rows of attentions that ``--attention`` gives and ``--methods`` does not mention."""
    named = {
        method.params["attention"]
        for row, method in trained.items()
        if any(fits_name(row, name) for name in wanted)
    }
    return [row for row, method in trained.items() if method.params["attention"] not in named]


def _attention_files(
    wanted: list[str],
    given: Sequence[Path],
    options: BackboneOptions,
    explicit: bool,
    reporter: Reporter,
) -> list[AttentionFile]:
    asked = [name for name in wanted if is_trained(name)]
    if given:
        files = [load_attention(find_attention(path)) for path in given]
        rows = [row for file in files for row in names_of(file)]
        for name in asked:
            if explicit and not any(fits_name(row, name) for row in rows):
                raise LcamError(
                    f"none of the attentions given is {name}", f"they are {', '.join(rows)}"
                )
        return files
    files = []
    for name in asked:
        try:
            files.append(newest_run(name, options, reporter, softmax=options.backbone is not None))
        except LcamError:
            if explicit:
                raise
            reporter.info("without lcam: no trained attention for this backbone under runs/")
    return list({file.path: file for file in files}.values())


def _backbone(
    files: list[AttentionFile], options: BackboneOptions, seed: int, redrawable: bool
) -> Backbone:
    """Load the one backbone that all attentions belong to, or the one typed."""
    settings = [(file, file.settings) for file in files if file.settings is not None]
    if not settings:
        if options.backbone is None and options.weights is None:
            raise _no_backbone()
        backbone = new_backbone(options, seed, redrawable=redrawable)
    else:
        first, known = settings[0]
        for other, theirs in settings[1:]:
            same_fit = replace(theirs.preprocess, fit=known.preprocess.fit)
            if (theirs.identity, same_fit) != (known.identity, known.preprocess):
                raise LcamError(
                    f"{first.path} belongs to {_in_words(known.identity)}, "
                    f"{other.path} to {_in_words(theirs.identity)}"
                    + ("" if theirs.identity != known.identity else " with other preprocessing"),
                    "compare them in two runs"
                    + (
                        ": a trained head makes a classifier of its own"
                        if known.trained_on or theirs.trained_on
                        else ""
                    ),
                )
        check_one_fit(files, options.fit)
        backbone = backbone_of_file(
            str(first.path),
            known.identity,
            options,
            class_names=known.class_names,
            preprocess=known.preprocess,
            redrawable=redrawable,
        )
    for file in files:
        check_fits(file, backbone)
    return backbone


def _no_backbone() -> LcamError:
    """What to say where nothing names the backbone; a run under runs/ would know its own."""
    runs = trained_files()
    return LcamError(
        "no backbone named",
        "name one, e.g. --backbone resnet50, or in lcam.toml"
        + (f", or --attention {runs[0].parent}" if runs else ""),
    )


def _in_words(identity: Identity) -> str:
    """A backbone in words: its name, weights, layer and activation."""
    return (
        f"{identity.name} ({identity.weights[:19]}, layer {identity.layer}, {identity.activation})"
    )


def _trained(files: list[AttentionFile]) -> dict[str, Method]:
    """The attentions by name: the mode's, and where two have the same, the folder or file too."""
    methods: dict[str, Method] = {}
    rows = [(name, file) for file in files for name in names_of(file)]
    alike = Counter(name for name, _ in rows)
    folders = Counter((name, file.path.parent.name) for name, file in rows)
    for name, file in rows:
        folder = file.path.parent.name
        apart = folder if folders[name, folder] == 1 else str(file.path)
        row = name if alike[name] == 1 else f"{name} ({apart})"
        methods[row] = method_of(file, name)
        methods[row].name = row
    return methods
