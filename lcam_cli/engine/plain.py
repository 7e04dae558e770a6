"""From whatever a source returns to a plain classifier: (B, C, H, W) to logits (B, R), float32.

What is odd about it is found by trying (``engine.probe``); what has to change is its ``forward``
(``engine.adapter``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lcam_cli.engine import probabilities as p
from lcam_cli.engine.activation import Activation, check_activation
from lcam_cli.engine.adapter import Adapter, adapted, unadapted
from lcam_cli.engine.first_run import first_run
from lcam_cli.engine.output import Choice, choose
from lcam_cli.engine.probe import Probe
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.network import Network, check_loaded
from lcam_cli.networks.registry import gives_logits
from lcam_cli.networks.torchscript import wrap_scripts
from lcam_cli.networks.wrappers import run_eagerly, unwrap

_LAZY = (nn.UninitializedParameter, nn.UninitializedBuffer)
_KINDS = {
    "softmax": "probabilities (each row sums to 1)",
    "log_softmax": "the logarithms of probabilities (each row of them sums to 1)",
    "sigmoid": "probabilities, one per class (its last step is a sigmoid)",
}


@dataclass
class PlainClassifier:
    """A classifier as the rest of the package takes it.

    Attributes:
        module: Gives logits (B, R) for images (B, C, H, W); in eval mode, float32, frozen.
        logits: What it gives for the image it was tried with, (1, R).
        activation: As typed, or what its outputs tell.
        probabilities: The last step that was taken off, ``"softmax"``, ``"sigmoid"`` or
            ``"log_softmax"``; ``""`` where it gives logits, or nobody asked.
        notes: What the user should know, a line each.
        one_by_one: Why images must go through it one by one, in words; ``""`` where they need
            not.
        takes_several: Whether it takes several images at once at all.
        picture: What it was tried with, (1, C, H, W), of as many channels as it takes.
    """

    module: nn.Module
    logits: Tensor
    activation: Activation = "softmax"
    probabilities: str = ""
    notes: list[str] = field(default_factory=list)
    one_by_one: str = ""
    takes_several: bool = True
    picture: Tensor = field(default_factory=lambda: torch.empty(1, 3, 0, 0))

    @property
    def channels(self) -> int:
        """C of the images that it takes."""
        return self.picture.shape[1]


def some_pictures(count: int, preprocess: Preprocess) -> Tensor:
    """Inputs to try a network with, (count, C, H, W): noise in [0, 1], normalised as images are.

    They have values, not zeros, so that whoever compares two ways of running it sees a difference.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand((count, *preprocess.input_shape), generator=generator)
    mean, std = (torch.tensor(n).view(1, -1, 1, 1) for n in (preprocess.mean, preprocess.std))
    return (pixels - mean) / std


def plain_classifier(
    network: Network,
    picture: Tensor,
    *,
    output: str = "",
    activation: str | None = None,
    probabilities: str | None = None,
    find_channels: bool = True,
) -> PlainClassifier:
    """Make a plain classifier of a network.

    Args:
        network: As loaded.
        picture: Something to try it with, (1, C, H, W).
        output: Which of several outputs are the logits; ``""`` for the only ones that can be.
        activation: What turns outputs into scores; None for what the network's source says, or to
            see for oneself.
        probabilities: The last step to take off, as a file has it; None to see for oneself.
        find_channels: Whether a network that takes another number of channels than the image has
            is tried with one of its own number.

    Raises:
        LcamError: It fails on the image, or gives no logits.
    """
    name = network.name
    module = wrap_scripts(unwrap(unadapted(network.module)))
    check_loaded(module, name)
    _make_ordinary(module)
    module.eval()
    notes = _to_float32(name, module)
    run_eagerly()
    with torch.random.fork_rng(devices=[]):  # lazy layers draw their weights now
        torch.manual_seed(_seed_of(network))
        alone, picture = first_run(name, module, picture, find_channels=find_channels)
    for parameter in module.parameters():  # a TorchScript module cannot do it itself
        parameter.requires_grad_(False)
    run_eagerly()  # what was compiled only now
    typed = None if activation is None else check_activation(activation)
    if gives_logits(name):
        choice, probe = choose(name, alone, None, output), None
    else:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            probe = Probe(module, picture, alone)
            choice = choose(name, alone, probe.pair, output)
            notes += probe.notes(name, choice)
    rows = probe.rows(choice) if probe else choice.shaped(choice.pick(alone))
    kind = p.check_kind(probabilities or "")
    if kind and p.kind_of(rows, kind) != kind:
        raise LcamError(
            f"{name} does not return {kind} now, as it did when the file was written",
            "pass the network as it was, or write the file again",
        )
    if probabilities is None and typed in (None, "none") and probe is not None:
        kind = _kind(module, choice, picture, probe) or ""
        if kind and typed is None:
            notes.append(f"{name} returns {_KINDS[kind]}: they are used as the scores")
    if typed == "none" and not kind:
        _check_scores(name, rows)
    copies = probe is not None and probe.changes_input
    if choice.reshaped or choice.path or kind or copies:
        comes_off = kind != "" and _comes_off(module, choice, picture, kind)
        module = adapted(module, Adapter(choice, kind, comes_off, copies))
        with torch.no_grad():
            logits = module(picture.clone())
    else:
        logits = alone
    known = check_activation(network.activation) if network.activation and not kind else None
    scored_by = typed or known or _activation_of(kind)
    plain = PlainClassifier(module, logits, scored_by, kind, notes)
    if probe is not None:
        plain.one_by_one = probe.why_one_by_one(name, choice)
        plain.takes_several = probe.pair is not None
    plain.picture = picture
    return plain


def _activation_of(kind: str) -> Activation:
    """What turns logits into scores where the network's last step was of this kind."""
    return "sigmoid" if kind == "sigmoid" else "softmax"


def _seed_of(network: Network) -> int:
    """What its random weights are drawn from, if they are random."""
    drawn = re.fullmatch(r"none:seed=(\d+)", network.weights)
    return int(drawn[1]) if drawn else 0


def _make_ordinary(module: nn.Module) -> None:
    """Copy weights that were made in inference mode: nothing may be differentiated through them."""
    for part in module.modules():
        kept: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
        for tensors in kept:
            for name, tensor in tensors.items():
                if tensor is None or isinstance(tensor, _LAZY):
                    continue
                if tensor.is_inference():
                    copy = tensor.clone()
                    is_parameter = isinstance(tensor, nn.Parameter)
                    tensors[name] = (
                        nn.Parameter(copy, requires_grad=False) if is_parameter else copy
                    )


def _to_float32(name: str, module: nn.Module) -> list[str]:
    """Bring a network to float32 on the CPU, and say so where that is a change of precision."""
    tensors = [*module.parameters(), *module.buffers()]
    tensors = [t for t in tensors if not isinstance(t, _LAZY)]
    if any(t.device.type != "cpu" for t in tensors):
        module.cpu()
    others = {str(t.dtype)[6:] for t in tensors if t.is_floating_point()} - {"float32"}
    if not others:
        return []
    module.float()
    listed = " and ".join(sorted(others))
    return [f"{name} is in {listed}: used in float32 (--precision sets what it computes in)"]


def _check_scores(name: str, outputs: Tensor) -> None:
    """Check that outputs can be scores as they are."""
    low, high = float(outputs.min()), float(outputs.max())
    if low < 0 or high > 1:
        raise LcamError(
            f"{name} returns {low:.3g} to {high:.3g}, which are not scores in 0…1",
            "remove --activation none: these are logits",
        )


def _kind(module: nn.Module, choice: Choice, picture: Tensor, probe: Probe) -> p.Kind | None:
    rows = probe.rows(choice)
    within = bool(((rows >= 0) & (rows <= 1)).all())
    last = None
    if within:
        last = p.last_step(lambda x: choice.pick(module(x)), picture, choice.classes)
    kind = p.kind_of(rows, last)
    if kind is None:
        return None
    with torch.no_grad():  # images of another kind, to be sure
        outputs = [
            choice.shaped(choice.pick(module(x))) for x in (picture / 8, probe.other.flip(2))
        ]
    return kind if p.kind_of(torch.cat(outputs), last) == kind else None


def _comes_off(module: nn.Module, choice: Choice, picture: Tensor, kind: p.Kind) -> bool:
    """Whether what the last step is given can be had: these are logits that give its outputs."""
    with torch.no_grad(), p.LastSteps(choice.classes) as steps:
        output = choice.pick(module(picture.clone()))
    found = steps.of(output)
    if found is None:
        return False
    outputs, logits = choice.shaped(output), choice.shaped(found[1])
    return torch.allclose(p.scores_of(logits, kind), outputs, rtol=1e-4, atol=1e-5)
