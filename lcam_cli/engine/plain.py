"""From whatever a source returns to a plain classifier: (B, 3, H, W) to logits (B, R), float32.

The network keeps its modules and their names: what has to change is its ``forward``, which a
subclass made for this one network replaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from lcam_cli.engine import probabilities as p
from lcam_cli.engine.activation import Activation, check_activation
from lcam_cli.engine.first_run import first_run
from lcam_cli.engine.output import Choice, choose
from lcam_cli.errors import LcamError
from lcam_cli.networks.network import Network
from lcam_cli.networks.registry import gives_logits
from lcam_cli.networks.users_code import one_line
from lcam_cli.networks.wrappers import check_loaded, run_eagerly, unwrap, wrap_scripts

_BEFORE = "_lcam_before"
_LAZY = (nn.UninitializedParameter, nn.UninitializedBuffer)
_KINDS = {
    "softmax": "probabilities (each row sums to 1)",
    "log_softmax": "the logarithms of probabilities (each row of them sums to 1)",
    "sigmoid": "probabilities, one a class (its last step is a sigmoid)",
}


@dataclass
class PlainClassifier:
    """A classifier as the rest of the package takes it.

    Attributes:
        module: Gives logits (B, R) for pictures (B, 3, H, W); in eval mode, float32, frozen.
        logits: What it gives for the picture it was tried with, (1, R).
        activation: As typed, or what its outputs tell.
        probabilities: The last step that was taken off, ``"softmax"``, ``"sigmoid"`` or
            ``"log_softmax"``; ``""`` where it gives logits, or nobody asked.
        notes: What the user should know, a line each.
        one_by_one: Why pictures must go through it one by one, in words; ``""`` where they need
            not.
        takes_several: Whether it takes several pictures at once at all.
    """

    module: nn.Module
    logits: Tensor
    activation: Activation = "softmax"
    probabilities: str = ""
    notes: list[str] = field(default_factory=list)
    one_by_one: str = ""
    takes_several: bool = True


def plain_classifier(
    network: Network,
    picture: Tensor,
    *,
    output: str = "",
    activation: str | None = None,
    probabilities: str | None = None,
) -> PlainClassifier:
    """Make a plain classifier of a network.

    Args:
        network: As loaded.
        picture: Something to try it with, (1, 3, H, W).
        output: Which of several outputs are the logits; ``""`` for the only ones that can be.
        activation: What turns outputs into scores; None to see for oneself.
        probabilities: The last step to take off, as a file has it; None to see for oneself.

    Raises:
        LcamError: It fails on the picture, or gives no logits.
    """
    name = network.name
    module = wrap_scripts(unwrap(_as_it_was(network.module)))
    check_loaded(module, name)
    _make_ordinary(module)
    module.eval()
    notes = _to_float32(name, module)
    run_eagerly()
    with torch.random.fork_rng(devices=[]):  # lazy layers draw their weights now
        torch.manual_seed(_seed_of(network))
        alone = first_run(name, module, picture)
    for parameter in module.parameters():  # a TorchScript module cannot do it itself
        parameter.requires_grad_(False)
    run_eagerly()  # what was compiled only now
    told = None if activation is None else check_activation(activation)
    if gives_logits(name):
        choice, trial = choose(name, alone, None, output), None
    else:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            trial = _Trial(module, picture, alone)
            choice = choose(name, alone, trial.pair, output)
            notes += trial.notes(name, choice)
    rows = trial.rows(choice) if trial else choice.shaped(choice.pick(alone))
    kind = p.check_kind(probabilities or "")
    if kind and p.kind_of(rows, kind) != kind:
        raise LcamError(
            f"{name} gives no {kind} now, as it did when the file was made",
            "give the network as it was, or make the file anew",
        )
    if probabilities is None and told in (None, "none") and trial is not None:
        kind = _kind(module, choice, picture, trial) or ""
        if kind:
            notes.append(f"{name} gives {_KINDS[kind]}: they are taken as the scores")
    if told == "none" and not kind:
        _check_scores(name, rows)
    copies = trial is not None and trial.changes_input
    if choice.reshaped or choice.path or kind or copies:
        comes_off = kind != "" and _comes_off(module, choice, picture, kind)
        around = _Around(choice, kind, comes_off, copies)
        module = _with_forward(module, around)
    with torch.no_grad():
        logits = module(picture.clone())
    if told is None:
        told = "sigmoid" if kind == "sigmoid" else "softmax"
    if trial is None:
        return PlainClassifier(module, logits, told, kind, notes)
    alone_only = trial.differs(name, choice)
    return PlainClassifier(module, logits, told, kind, notes, alone_only, trial.pair is not None)


def scoring(activation: Activation, probabilities: str) -> Activation:
    """What turns the plain classifier's logits into scores.

    Where its last step was taken off, that; then ``"none"`` means the same.
    """
    if activation == "none" and probabilities:
        return "sigmoid" if probabilities == "sigmoid" else "softmax"
    return activation


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
    return [f"{name} is in {listed}: taken in float32 (--precision says what it computes in)"]


class _Trial:
    """What a network gives for two pictures, alone and together, and for one of them again.

    Attributes:
        pair: Its output for both together; None where it fails.
        changes_input: Whether it changes what it is given in place.
    """

    def __init__(self, module: nn.Module, picture: Tensor, alone: Any) -> None:
        self.other = picture.flip(3) / 2  # of values that pass where the picture's do
        both = torch.cat([picture, self.other])
        self._failed = ""
        try:
            self.pair: Any = module(both)
        except Exception as error:  # code that takes one picture at a time can fail in any way
            self.pair, self._failed = None, one_line(error)
        self._alone = [alone, module(self.other)]
        given = picture.clone()
        self._again = module(given)
        self.changes_input = given._version > 0

    def rows(self, choice: Choice) -> Tensor:
        """The outputs of the two pictures alone, (2, R)."""
        return torch.cat([self._row(one, choice) for one in self._alone])

    def notes(self, name: str, choice: Choice) -> list[str]:
        """What is odd about the outputs."""
        notes = []
        if choice.squeezed:
            notes.append(
                f"{name} gives {_shape(choice.pick(self._alone[0]))} for one picture and "
                f"{_shape(choice.pick(self.pair))} for two: its squeeze() drops the axis of a "
                "batch of one, which is put back; flatten(1) would keep it"
            )
        if self._varies(choice):
            most = _apart(self._row(self._again, choice), self._row(self._alone[0], choice))
            notes.append(
                f"{name} gives other outputs for the same picture every time (they differ by "
                f"{most:.2g}): random numbers, dropout or counts in its forward(); so will maps be"
            )
        return notes

    def differs(self, name: str, choice: Choice) -> str:
        """Why pictures must go one by one, if they must."""
        if self._failed:
            return f"{name} takes one picture at a time ({self._failed})"
        if self._varies(choice):
            return ""
        alone, both = self.rows(choice), choice.shaped(choice.pick(self.pair))
        if torch.allclose(alone, both, rtol=1e-3, atol=_small(alone), equal_nan=True):
            return ""
        return (
            f"{name} gives a picture other outputs in a batch than alone (they differ by "
            f"{_apart(alone, both):.2g})"
        )

    def _varies(self, choice: Choice) -> bool:
        first, again = (self._row(o, choice) for o in (self._alone[0], self._again))
        return not torch.allclose(first, again, rtol=1e-3, atol=_small(first), equal_nan=True)

    def _row(self, output: Any, choice: Choice) -> Tensor:
        row: Tensor = choice.shaped(choice.pick(output))
        return row


def _small(logits: Tensor) -> float:
    """Rounding, against the largest: those of random weights may be of any size."""
    return 1e-4 * max(1.0, float(logits.abs().max()))


def _apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max())


def _shape(value: Tensor) -> tuple[int, ...]:
    return tuple(value.shape)


def _check_scores(name: str, outputs: Tensor) -> None:
    """Check that outputs can be scores as they are."""
    low, high = float(outputs.min()), float(outputs.max())
    if low < 0 or high > 1:
        raise LcamError(
            f"{name} gives {low:.3g} to {high:.3g}, which are no scores in 0…1",
            "leave --activation none out: these are logits",
        )


# --- the new forward ------------------------------------------------------------------------------


class _Around:
    """What is done with what a network returns, and while it runs.

    Args:
        choice: Where its outputs are.
        kind: Its last step; ``""`` for none of those that give probabilities.
        comes_off: Whether that is taken off, and else undone.
        copies: Whether it is given a copy, since it changes that in place.
    """

    def __init__(self, choice: Choice, kind: Any, comes_off: bool, copies: bool) -> None:
        self._choice, self._kind, self._comes_off = choice, kind, comes_off
        self._copies = copies

    def __call__(self, run: Callable[[Any], Any], x: Any) -> Any:
        choice = self._choice
        if self._copies:
            x = x.clone()
        if not self._comes_off:
            outputs = choice.shaped(choice.pick(run(x)))
            return p.logits_of(outputs, self._kind) if self._kind else outputs
        if isinstance(x, fx.Proxy):
            return choice.shaped(p.before_traced(choice.pick(run(x))))
        with p.LastSteps(choice.classes) as steps:
            output = choice.pick(run(x))
        found = steps.of(output)
        if found is None:  # it ends otherwise for this picture
            return p.logits_of(choice.shaped(output), self._kind)
        return choice.shaped(found[1])


def _kind(module: nn.Module, choice: Choice, picture: Tensor, trial: _Trial) -> p.Kind | None:
    rows = trial.rows(choice)
    within = bool(((rows >= 0) & (rows <= 1)).all())
    last = None
    if within:
        last = p.last_step(lambda x: choice.pick(module(x)), picture, choice.classes)
    kind = p.kind_of(rows, last)
    if kind is None:
        return None
    with torch.no_grad():  # pictures of another kind, to be sure
        outputs = [
            choice.shaped(choice.pick(module(x))) for x in (picture / 8, trial.other.flip(2))
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


def _as_it_was(module: nn.Module) -> nn.Module:
    """A network without the forward that it got here: it may be used a second time."""
    if hasattr(type(module), _BEFORE):
        cls, own = getattr(type(module), _BEFORE)
        module.__class__ = cls
        if own is not None:
            module.__dict__["forward"] = own
    return module


def _with_forward(module: nn.Module, around: _Around) -> nn.Module:
    """The network with another forward, its parts and their names as they were."""
    cls = type(module)
    own = module.__dict__.pop("forward", None)  # set on this network alone

    def forward(self: nn.Module, x: Tensor) -> Any:
        return around(own or partial(cls.forward, self), x)

    told = {
        **{"forward": forward, "__module__": cls.__module__, "__doc__": cls.__doc__},
        _BEFORE: (cls, own),
    }
    module.__class__ = type(cls.__name__, (cls,), told)
    return module
