"""Drawing a network's weights anew, from its last layers down: the cascading randomisation.

Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018, section 3. The layers are grouped
into stages, from the logits back; after stage k the weights of stages 1 to k are random, and those
before them, which the image meets first, are as they were trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lcam_cli.engine.layer_order import layers_in_order, running_statistics
from lcam_cli.errors import LcamError
from lcam_cli.networks.torchscript import scripts_in

Statistics = dict[str, tuple[Tensor, Tensor]]
"""Mean and variance of each channel, (K,) each, by the name of the batch norm."""


_ROOT = "the network itself"
"""What the layer is called that holds the network's own weights, as a class token."""

_LISTED = 3


@dataclass(frozen=True)
class Stage:
    """Layers whose weights are drawn anew together.

    Attributes:
        layers: Their names, from the logits back.
        first: What the first of them is called for people: its name, or that of the outermost
            block around it that lies in the stage as a whole.
        last: The same of the last.
    """

    layers: tuple[str, ...]
    first: str
    last: str

    @property
    def name(self) -> str:
        """``classifier to features.17``, or the one name where both are the same."""
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


class Cascade:
    """A network whose weights can be exchanged, stage by stage, for random ones and back.

    The random weights are drawn once, on the CPU, so that all methods and machines get the same;
    whatever the number of stages, a layer gets the same ones. They are exchanged in place: whatever
    else runs on the network's weights (``engine.split``) computes with them too. Batch norms must
    not be folded into convolutions, nor anything else be computed from the weights beforehand.

    Attributes:
        network: The network, changed in place.
        stages: From the logits back.
        notes: What the user should know of it, a line each.
    """

    def __init__(self, network: nn.Module, picture: Tensor, stages: int, seed: int) -> None:
        """Draw the random weights; the network stays as it is.

        Args:
            network: A classifier in eval mode, on the CPU.
            picture: Something to try it with, (1, C, H, W).
            stages: How many there are at most; fewer where there are fewer layers.
            seed: Of the weights.

        Raises:
            LcamError: It has no weights that could be drawn.
        """
        used = layers_in_order(network, picture)
        layers = dict(reversed(used.parameters.items()))
        if not layers:
            raise LcamError(
                "none of this network's weights can be randomised: none are parameters",
                "pass the network itself, not a frozen or quantised copy",
            )
        self.network = network
        self.stages = group_layers(list(layers), stages)
        self.notes = _notes(network, used.fixed)
        self._norms = [
            n for n in layers if running_statistics(network.get_submodule(n)) is not None
        ]
        self._trained = self._statistics(self._norms)
        self._fitted: dict[int, Statistics] = {}
        self._count = 0
        # Of each stage the weights that the network does not have now: the random ones first.
        self._others = _drawn(network, layers, seed)

    @torch.no_grad()
    def draw(self, count: int) -> None:
        """Have the first ``count`` stages' weights be random, and all others as trained.

        Batch norms of these stages get the statistics that :meth:`fit` found for ``count``; without
        any those of a new one, mean 0 and variance 1.
        """
        low, high = sorted((count, self._count))
        for stage in self.stages[low:high]:
            for name in stage.layers:
                self._exchange(name)
        self._count = count
        self._set_statistics()

    @property
    def is_fitted(self) -> bool:
        """Whether there is nothing to fit at the stage at which the network is."""
        return self._count in self._fitted or not self._drawn_norms()

    @torch.no_grad()
    def fit(self, run: Callable[[], object]) -> None:
        """Have the batch norms of the stages drawn normalise by what they get now.

        A new batch norm takes its statistics from the images, as in the first step of a training.
        With the old ones, or with mean 0 and variance 1, a random network would say nothing of its
        pictures: what 80 layers of EfficientNet-B0 give shrinks to 1e-12, and its logits are their
        biases.

        Args:
            run: Runs the network on a batch of images.
        """
        with ExitStack() as stack:
            for name in self._drawn_norms():
                norm = self.network.get_submodule(name)
                handle = norm.register_forward_pre_hook(_take_statistics, prepend=True)
                stack.callback(handle.remove)
            run()
        self._fitted[self._count] = self._statistics(self._drawn_norms())

    def _drawn_norms(self) -> list[str]:
        drawn = {name for stage in self.stages[: self._count] for name in stage.layers}
        return [name for name in self._norms if name in drawn]

    def _exchange(self, name: str) -> None:
        live = _parameters(self.network.get_submodule(name))
        for parameter, other in self._others[name].items():
            self._others[name][parameter] = live[parameter].detach().cpu().clone()
            live[parameter].copy_(other)

    def _live_statistics(self, name: str) -> tuple[Tensor, Tensor]:
        live = running_statistics(self.network.get_submodule(name))
        assert live is not None
        return live

    def _statistics(self, names: Iterable[str]) -> Statistics:
        found = {}
        for name in names:
            mean, variance = self._live_statistics(name)
            found[name] = (mean.cpu().clone(), variance.cpu().clone())
        return found

    def _set_statistics(self) -> None:
        drawn = set(self._drawn_norms())
        fitted = self._fitted.get(self._count, {})
        for name, trained in self._trained.items():
            new = (torch.zeros_like(trained[0]), torch.ones_like(trained[1]))
            wanted = fitted.get(name, new) if name in drawn else trained
            for live, value in zip(self._live_statistics(name), wanted, strict=True):
                live.copy_(value)


def group_layers(layers: Sequence[str], stages: int) -> list[Stage]:
    """Group layers into stages of as many layers each; the first ones get one more where need be.

    Args:
        layers: Their names, from the logits back.
        stages: How many stages there are at most.
    """
    count = min(stages, len(layers))
    size, more = divmod(len(layers), count)
    found, start = [], 0
    for i in range(count):
        end = start + size + (i < more)
        part = tuple(layers[start:end])
        others = [*layers[:start], *layers[end:]]
        found.append(Stage(part, _block(part[0], others), _block(part[-1], others)))
        start = end
    return found


def _block(layer: str, others: Sequence[str]) -> str:
    """The outermost block around a layer that holds none of the ``others``."""
    parts = layer.split(".")
    for depth in range(1, len(parts)):
        block = ".".join(parts[:depth])
        if not any(f"{other}.".startswith(f"{block}.") for other in others):
            return block
    return layer or _ROOT


def _drawn(
    network: nn.Module, layers: Mapping[str, Sequence[str]], seed: int
) -> dict[str, dict[str, Tensor]]:
    """Random weights, by layer and name; the network has its own again afterwards."""
    found = {}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for layer, names in layers.items():
            module = network.get_submodule(layer)
            live = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            before = [tensor.clone() for tensor in live]
            _redraw(module, names)
            parameters = _parameters(module)
            found[layer] = {name: parameters[name].detach().clone() for name in names}
            for tensor, own in zip(live, before, strict=True):
                tensor.copy_(own)
    return found


def _parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """A module's own parameters, not its parts', by name."""
    return dict(module.named_parameters(recurse=False))


def _redraw(module: nn.Module, names: Sequence[str]) -> None:
    """Draw a module's own weights anew, in place, as PyTorch draws them where it knows how.

    What ``reset_parameters()`` leaves as it was, as the parts of a weight that is put together
    before each call, and what has none, is drawn from a normal distribution of its own mean and
    standard deviation.
    """
    parameters = _parameters(module)
    own = [parameters[name] for name in names]
    before = [p.clone() for p in own]
    reset = getattr(module, "reset_parameters", None)
    # One that has layers inside may draw these too, which are of other stages.
    if callable(reset) and not any(True for part in module.children() for _ in part.parameters()):
        try:
            reset()
        except Exception:  # it may be anybody's, and want arguments
            for p, was in zip(own, before, strict=True):
                p.copy_(was)
    for p, was in zip(own, before, strict=True):
        spread = float(was.std(unbiased=False))
        if spread > 0 and torch.equal(p, was):  # all equal, as 0 at the start, they stay so
            p.normal_(float(was.mean()), spread)


def _take_statistics(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
    """Give a batch norm the statistics of its input, (B, K) or (B, K, …), before it runs."""
    x = given[0].detach().float()
    x = x[x.flatten(1).isfinite().all(1)]  # one image without numbers must not spoil all others
    channels = x.transpose(0, 1).flatten(1)  # (K, B·…)
    if channels.shape[1] < 2:  # one number has no variance
        return
    variance, mean = torch.var_mean(channels, 1)
    for live, value in zip(running_statistics(norm) or (), (mean, variance), strict=False):
        live.copy_(value)


def _notes(network: nn.Module, fixed: Sequence[str]) -> list[str]:
    """What is not drawn anew, or otherwise than PyTorch would, a line each."""
    if scripts_in(network):
        return [
            "TorchScript does not show how its layers are initialised: their weights are drawn "
            "from normal distributions with the mean and spread of the weights, and batch norms "
            "keep their statistics"
        ]
    if not fixed:
        return []
    listed = ", ".join(name or _ROOT for name in fixed[:_LISTED]) + ", …" * (len(fixed) > _LISTED)
    return [f"numbers that are not parameters are not randomised: those of {listed}"]
