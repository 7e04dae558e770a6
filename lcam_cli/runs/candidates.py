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
from lcam_cli.methods.registry import find_method, make_method, try_method
from lcam_cli.methods.trained import (
    fits_name,
    is_trained,
    method_of,
    names_of,
)
from lcam_cli.reports.results import FLOOR
from lcam_cli.runs.authors_tame import with_their_backbone
from lcam_cli.runs.backbone import backbone_of_file, new_backbone
from lcam_cli.runs.method import refuse_for_trained
from lcam_cli.runs.newest_run import newest_run
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.other_fit import check_one_fit, note_other_fit
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.wanted import Wanted, wanted_methods


@dataclass
class Candidates:
    """The methods of a comparison.

    Attributes:
        backbone: The classifier that all of them explain.
        methods: The methods by the name of their row, in the order of the rows.
        left_out: Methods of a group that cannot explain this classifier.
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
        names: Of methods and of groups, as typed; None for ``"one-pass"``.
        attentions: Trained attentions named by the user.
        backbone_options: The backbone as typed.
        method_options: What methods are made with.
        floor: Whether ``random`` is compared too.
        reporter: Is told what is left out.
        redrawable: Whether the backbone's weights will be drawn anew.

    Raises:
        LcamError: A method, attention or backbone does not exist or does not fit.
    """
    every = wanted_methods(names)
    for one in every:
        if one.by_name and is_trained(one.name):
            refuse_for_trained(one.name, method_options)
        elif one.by_name:
            # A mistyped name is told before a backbone is downloaded.
            find_method(one.name, or_groups=True)
    files = _attention_files(every, attentions, backbone_options, reporter)
    files, backbone_options = with_their_backbone(files, backbone_options, reporter)
    note_other_fit(files, backbone_options.fit, reporter)
    backbone = _backbone(files, backbone_options, method_options.seed, redrawable)
    trained = _trained(files)
    if attentions and trained:
        refuse_for_trained(next(iter(trained)), method_options)
    chosen = Candidates(backbone, {})
    reasons: dict[str, dict[str, str]] = {}
    for one in [*map(Wanted, _not_named(trained, every)), *every]:
        try:
            found = _methods_of(one, backbone, trained, method_options)
        except LcamError as error:
            if one.by_name:
                raise
            # Methods that fail for one reason differ in their own name alone.
            shared = error.what.removeprefix(f"{one.name} ")
            reasons.setdefault(shared, {})[one.name] = error.what
            continue
        for row, method in found.items():
            if not one.one_pass or method.forward_passes == 1 or row in trained:
                chosen.methods[_row(row, method_options, method)] = method
    _say_left_out(reasons, chosen, reporter)
    if not chosen.methods:
        raise LcamError("no methods to compare", "pass some, e.g. --methods gradcam,rise")
    if floor and FLOOR not in chosen.methods:
        chosen.methods |= _methods_of(Wanted(FLOOR), backbone, trained, method_options)
    return chosen


def _methods_of(
    wanted: Wanted, backbone: Backbone, trained: Mapping[str, Method], options: MethodOptions
) -> dict[str, Method]:
    """The rows that a name stands for: several where several runs are of that kind.

    Raises:
        LcamError: The method cannot explain the backbone, or not with these options.
    """
    name = wanted.name
    if is_trained(name) or name in trained:
        found = {row: method for row, method in trained.items() if fits_name(row, name)}
        if found:
            refuse_for_trained(name, options)
        return found
    if name == FLOOR:
        options = options.of_one_layer()
    if wanted.by_name:
        return {name: make_method(name, backbone, options=options)}
    return {name: try_method(name, backbone, options)}  # what a group leaves out needs no hint


def _row(name: str, options: MethodOptions, method: Method) -> str:
    """What a method's row is called: with the contrast that was asked for, where it takes one."""
    asked = options.contrast is not None and "contrast" in method.params
    return f"{name} ({method.params['contrast']})" if asked else name


def _say_left_out(
    reasons: Mapping[str, Mapping[str, str]], chosen: Candidates, reporter: Reporter
) -> None:
    """Say which methods of groups cannot explain this backbone: those of one reason in one line.

    Args:
        reasons: By what their errors share, the methods' names and errors.
        chosen: Has them noted as left out.
        reporter: Is told. It is nobody's mistake, and changes no exit code.
    """
    for shared, errors in reasons.items():
        listed = ", ".join(errors)
        own = errors.get(listed, shared)  # of one method, the error as it is
        reporter.info(f"skipped {listed}: {own if own in errors.values() else f'each {shared}'}")
        chosen.left_out += errors


def _not_named(trained: dict[str, Method], wanted: Sequence[Wanted]) -> list[str]:
    """The rows of attentions that ``--attention`` gives and ``--methods`` does not mention."""
    named = {
        method.params["attention"]
        for row, method in trained.items()
        if any(fits_name(row, one.name) for one in wanted)
    }
    return [row for row, method in trained.items() if method.params["attention"] not in named]


def _attention_files(
    wanted: Sequence[Wanted],
    given: Sequence[Path],
    options: BackboneOptions,
    reporter: Reporter,
) -> list[AttentionFile]:
    asked = [one for one in wanted if is_trained(one.name)]
    if given:
        files = [load_attention(find_attention(path)) for path in given]
        rows = [row for file in files for row in names_of(file)]
        for one in asked:
            if one.by_name and not any(fits_name(row, one.name) for row in rows):
                raise LcamError(
                    f"none of the attentions passed is {one.name}", f"use one of {', '.join(rows)}"
                )
        return files
    files = []
    without = []
    for one in asked:
        name, softmax = one.name, options.backbone is not None
        try:
            files.append(newest_run(name, options, reporter, softmax=softmax))
        except LcamError:
            if one.by_name:
                raise
            without.append(name)
    if without and not files:
        reporter.info(
            f"skipped {', '.join(without)}: there is no trained attention for this backbone in "
            "runs/"
        )
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
                        ": a trained head makes another classifier"
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
        "pass one, e.g. --backbone resnet50, or set it in lcam.toml"
        + (f", or pass --attention {runs[0].parent}" if runs else ""),
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
