"""The newest run under ``runs/`` that fits what was typed, where no attention is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torchvision

from lcam_cli.engine.identity import Identity
from lcam_cli.engine.no_gradients import no_gradients
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import (
    NO_RUN_HINT,
    AttentionFile,
    load_attention,
    trained_files,
)
from lcam_cli.methods.registry import which_explain
from lcam_cli.methods.trained import fits_name, names_of
from lcam_cli.networks.class_names import read_class_names
from lcam_cli.networks.registry import has_gradients
from lcam_cli.networks.torchvision import torchvision_classifiers
from lcam_cli.networks.weights.checkpoint import sha256_of_file
from lcam_cli.runs.backbone import given_of, new_backbone, says_other_preprocessing
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.reporter import Reporter

_SHOWN = 3


def newest_run(
    method: str | None, options: BackboneOptions, reporter: Reporter, *, softmax: bool = False
) -> AttentionFile:
    """Find it, and say which it is.

    Args:
        method: What its method must be called; None for any.
        options: What was typed of the backbone.
        reporter: Is told of it, and of runs whose file cannot be read.
        softmax: Whether its classifier must have softmax scores where no activation was typed,
            unless the classifier's own last step tells.

    Raises:
        LcamError: There is none, or none fits; the message says how each differs. Or the network
            named can have none, since it has no gradients.
    """
    if options.backbone is not None and not has_gradients(options.backbone):
        backbone = new_backbone(options, 0)
        advice = f"pass a method: {which_explain(backbone)}"
        raise no_gradients(backbone, "a trained attention", advice)
    paths = trained_files()
    differences = []
    for path in paths:
        try:
            file = load_attention(path)
        except LcamError as error:
            reporter.warn(f"skipped {path.parent}: {error.what}")
            continue
        differs = next(_differences(file, method, options, softmax), "")
        if not differs:
            which = "the newest run" if path == paths[0] else "the newest run that fits"
            reporter.info(f"using {path.parent}, {which}")
            return file
        differences.append(f"{path.parent} {differs}")
    what = f"no trained attention{f' for {method}' if method else ''} under runs/"
    hint = NO_RUN_HINT
    if differences:
        hint = (
            "remove the options that differ, pass a run (--attention DIR), or train one "
            "(lcam train DATA --backbone …)"
        )
        if method is None:
            hint += "; or use another method: --method gradcam"
        more = " …" if len(differences) > _SHOWN else ""
        what += f" that fits: {'; '.join(differences[:_SHOWN])}{more}"
    raise LcamError(what, hint)


def _differences(
    file: AttentionFile, method: str | None, options: BackboneOptions, softmax: bool
) -> Iterator[str]:
    """Yield what makes a run none that was asked for, in words."""
    names, settings = names_of(file), file.settings
    if method is not None and not any(fits_name(name, method) for name in names):
        yield f"is for {names[0]}, not {method}"
    if settings is None:
        yield "does not say what it was trained for"
        return
    identity, given = settings.identity, given_of(options)
    activation = given.activation
    if activation is None and softmax and not identity.probabilities:
        activation = "softmax"
    for what, here, typed in (
        ("backbone", identity.name, given.name),
        ("layer", identity.layer, given.layer),
        ("grid", identity.grid, given.grid),
        ("activation", identity.activation, activation),
        ("output", identity.output, given.output),
    ):
        if typed is not None and typed != here:
            yield f"is for {what} {here or 'found automatically'}, not {typed}"
    if given.weights is not None:
        known = [identity, *([settings.trained_on] if settings.trained_on else [])]
        if not any(_are_weights_of(given.weights, one) for one in known):
            yield f"is for weights {known[-1].weights[:19]}, not {given.weights}"
    if options.classes is not None and read_class_names(options.classes) != settings.class_names:
        yield f"has other class names than {options.classes}"
    own = dataclasses.replace(settings.preprocess, fit=options.fit or settings.preprocess.fit)
    if says_other_preprocessing(options, own):
        yield "has other preprocessing than the options"


def _are_weights_of(typed: str, identity: Identity) -> bool:
    """Whether ``--weights`` means the weights of a backbone; nothing is loaded or run for it."""
    if typed == "none":
        return identity.weights == "none:seed=0"
    if typed == "DEFAULT":
        if identity.name in torchvision_classifiers():
            known = torchvision.models.get_model_weights(identity.name)
            return identity.weights in ("DEFAULT", known["DEFAULT"].name)
        return not (identity.weights.startswith("none:") or identity.weights_file)
    if Path(typed).is_file():
        return identity.weights == sha256_of_file(Path(typed))
    return identity.weights == typed
