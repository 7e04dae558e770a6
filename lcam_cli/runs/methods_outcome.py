"""Which methods can explain a network, at what cost, and which to take. Imports torch."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.pass_times import PassTimes, measure_passes
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import (
    AttentionFile,
    check_fits,
    find_attention,
    load_attention,
)
from lcam_cli.methods.cost import Pass, seconds_of_map
from lcam_cli.methods.families import FLOOR
from lcam_cli.methods.fused import Fused
from lcam_cli.methods.preferred import preferred
from lcam_cli.methods.refinecam import REFINECAM
from lcam_cli.methods.registry import Ability, abilities, known_methods
from lcam_cli.methods.trained import COSTS, SUMMARIES, fits_name, names_of
from lcam_cli.networks.registry import has_gradients
from lcam_cli.reports.methods import Choice, Duration, MethodLine, MethodList, NetworkFacts
from lcam_cli.runs.backbone import backbone_of_file, new_backbone
from lcam_cli.runs.engine import new_engine
from lcam_cli.runs.log import log_to
from lcam_cli.runs.method import method_options, refuse_for_trained, with_last_layer
from lcam_cli.runs.methods_options import MethodsOptions
from lcam_cli.runs.newest_run import newest_run
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.reporter import Reporter

_PASSES = {
    "forward": "forward",
    "head": "head",
    "head_backward": "head and backward to the layer",
    "backward": "forward and backward",
    "attention": "forward with attention",
    "attention_backward": "forward and backward with attention",
}
"""What the times measured are called."""


def all_methods(reporter: Reporter) -> MethodList:
    """The methods that there are."""
    with log_to(reporter):
        known = known_methods()
    learned = [
        MethodLine(name, "learned", text, COSTS.get(name, "1"), "lcam train")
        for name, text in SUMMARIES.items()
    ]
    others = [
        MethodLine(name, entry.family, entry.summary, entry.cost or "?", entry.needs)
        for name, entry in known.items()
    ]
    return MethodList((*learned, *others))


def methods_of_network(options: MethodsOptions, reporter: Reporter) -> MethodList:
    """What of them can explain a network: :func:`~lcam_cli.runs.methods.list_methods`."""
    with log_to(reporter):
        backbone, file = _network(options, reporter)
        settings = method_options(options.seed, options.contrast, options.layers, options.fuse)
        found = abilities(backbone, settings)
        engine = new_engine(backbone, options.engine, reporter)
        attention = any(one.method and one.entry.attention for one in found)
        times = measure_passes(engine, attention=attention)
        lines = [*_learned(options, backbone, file, times), *(_line(one, times) for one in found)]
    able = [one.name for one in lines if one.explains and one.family != FLOOR]
    best = preferred(able)
    choice = None
    if best is not None:
        name, preference = best
        trained = any(one.name == name and one.family == "learned" for one in lines)
        words = _words(options, file if trained else None)
        command = shlex.join(["lcam", "explain", "IMAGES", *words, "--method", name])
        choice = Choice(name, preference.reason, command)
    return MethodList(tuple(lines), _facts(engine, times), choice)


def _facts(engine: Engine, times: PassTimes) -> NetworkFacts:
    backbone = engine.backbone
    measured = {
        words: seconds
        for name, words in _PASSES.items()
        if (seconds := getattr(times, name)) is not None
    }
    return NetworkFacts(
        backbone.identity.name,
        backbone.identity.weights,
        backbone.identity.layer,
        backbone.feature_shape if backbone.has_layer else None,
        backbone.num_classes,
        engine.hardware.name,
        engine.hardware.precision,
        measured,
    )


def _line(ability: Ability, times: PassTimes) -> MethodLine:
    entry, method = ability.entry, ability.method
    duration: Duration | None = None
    if method is not None:
        each: Pass | None = entry.each if entry.plugin is None else None
        at_most, fused = entry.at_most, isinstance(method, Fused)
        if fused and ability.name != REFINECAM and entry.each != "forward":
            # One backward pass down to the earliest layer serves all; heads there are not known.
            each = "forward and backward" if method.forward_passes == 1 else None
            at_most = True
        if each is not None:
            seconds = seconds_of_map(each, method.forward_passes, times, again=fused)
            duration = None if seconds is None else Duration(seconds, at_most)
    return MethodLine(
        ability.name,
        entry.family,
        entry.summary,
        entry.cost or "?",
        entry.needs,
        duration,
        ability.why_not,
        ability.remedy,
    )


# --- What is trained --------------------------------------------------------------------------


def _network(options: MethodsOptions, reporter: Reporter) -> tuple[Backbone, AttentionFile | None]:
    """The classifier, and a trained attention for it; None where there is none.

    Raises:
        LcamError: There is no such classifier, or no such attention where one was named.
    """
    given = with_last_layer(options.backbone, options.layers)
    if options.attention is None:
        file = _newest(given, reporter)
    else:
        file = load_attention(find_attention(options.attention))
    if file is None or file.settings is None:
        backbone = new_backbone(given, options.seed)
    else:
        backbone = backbone_of_file(
            str(file.path),
            file.settings.identity,
            given,
            class_names=file.settings.class_names,
            preprocess=file.settings.preprocess,
        )
    if file is not None:
        check_fits(file, backbone)
    return backbone, file


def _newest(options: BackboneOptions, reporter: Reporter) -> AttentionFile | None:
    """The newest run of this very classifier; one that trained its head made another."""
    if options.backbone is None or not has_gradients(options.backbone):
        return None
    try:
        file = newest_run(None, options, reporter)
    except LcamError:
        return None
    return None if file.settings is not None and file.settings.trained_on else file


def _learned(
    options: MethodsOptions, backbone: Backbone, file: AttentionFile | None, times: PassTimes
) -> Iterator[MethodLine]:
    """The lines of learned methods: those of the attention, and those that are not trained."""
    names = [] if file is None else names_of(file)
    settings = method_options(options.seed, options.contrast, options.layers, options.fuse)
    for kind, summary in SUMMARIES.items():
        own = [name for name in names if fits_name(name, kind)]
        cost = COSTS.get(kind, "1")
        for name in own or [kind]:
            duration, why_not, remedy = None, "", ""
            try:
                refuse_for_trained(name, settings)
            except LcamError as error:
                why_not, remedy = error.what, error.hint
            if not (own or why_not):
                why_not, remedy = _why_untrained(options, backbone)
            if not why_not:
                each: Pass = "none" if cost == "1" else "backward to the layer"
                seconds = seconds_of_map(each, 1, times)
                duration = None if seconds is None else Duration(seconds)
            yield MethodLine(
                name, "learned", summary, cost, "lcam train", duration, why_not, remedy
            )


def _why_untrained(options: MethodsOptions, backbone: Backbone) -> tuple[str, str]:
    """Why nothing trained explains the network, and what would help."""
    if not backbone.has_layer:
        return "a trained attention needs a target layer, but the network has none", ""
    if not backbone.differentiable:
        return f"training needs gradients: {backbone.gradients_end}", ""
    where = "in that file" if options.attention is not None else "under runs/"
    words = shlex.join(_words(options, None))
    return (
        f"there is no attention trained for it {where}",
        f"lcam train DATA {words} --mode …".strip(),
    )


def _words(options: MethodsOptions, file: AttentionFile | None) -> list[str]:
    """The words that name the same network to another command."""
    words, given = [], options.backbone
    if file is not None:
        words = ["--attention", str(_folder(file.path))]
    if file is not None and file.settings is not None:  # it knows all but who may run code
        given = BackboneOptions(backbone=given.backbone, fit=given.fit)
    if len(options.layers) > 1:
        given = dataclasses.replace(given, layer=None)
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        if value is not None:
            words += [f"--{field.name.replace('_', '-')}", _typed(field.name, value)]
    for layer in options.layers:
        words += ["--layer", layer]
    for name in ("fuse", "contrast"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name}", value]
    return [*words, "--seed", str(options.seed)] if options.seed else words


def _folder(path: Path) -> Path:
    """A run's folder, by which users know it; a file that is in none stays."""
    return path.parent if path.name == "attention.safetensors" else path


def _typed(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return ("x" if name == "image_size" else ",").join(map(str, value))
    return str(value)
