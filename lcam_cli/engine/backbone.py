"""The frozen classifier f, split at the target layer into features and head.

``features(x) -> A`` is everything up to the target layer, ``head(A, around) -> logits`` the rest;
``around`` is what goes around the layer, such as a residual or a class token. Networks that
torch.fx can trace are split into two graphs that share the network's parameters. What it cannot
trace is run whole, with a hook that reads or replaces the layer's output. What a transformer gives
is read as feature maps (``engine.tokens``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.activation import Activation
from lcam_cli.engine.calls import Call, listen, replace
from lcam_cli.engine.folding import put, replace_batch_norms
from lcam_cli.engine.gradients import KeepGradients
from lcam_cli.engine.grid import Grid, find_grid
from lcam_cli.engine.layers import (
    Place,
    Target,
    by_chance,
    close,
    find_target,
    locate_target,
    resolve_layer,
    share_memory,
)
from lcam_cli.engine.live import live_network
from lcam_cli.engine.networks import Network, load_network, read_class_names
from lcam_cli.engine.plain import plain_classifier, scoring
from lcam_cli.engine.split import split, with_head
from lcam_cli.engine.tokens import Layout, parse_grid
from lcam_cli.engine.wrappers import inside_script, is_quantised, plain_layer, scripts_in
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.images.preprocess import Preprocess

Halves = tuple[nn.Module, nn.Module]

_SCORES_ALONE = (
    "without --layer, rise and random work: they need scores alone; for other methods give the "
    "network itself, or torch.export it"
)
# Where there is no target layer: as many cells as RISE's masks have.
_CELLS = (7, 7)


@dataclass(frozen=True)
class Identity:
    """What makes two backbones the same one: an attention fits only the backbone it was trained on.

    Attributes:
        name: As typed: ``resnet50``, ``file.py:function``.
        weights: torchvision's name, ``none:seed=N`` or ``sha256:…``.
        layer: The target layer.
        weights_file: Where the weights were read; a hint, no part of the identity.
        grid: ``"PxQ"`` of a transformer's patches where the user had to say so, else ``""``.
        activation: What turns its outputs into scores.
        output: Which of the network's outputs are the logits where the user had to say so, else
            ``""``.
        probabilities: The last step that was taken off it, ``"softmax"``, ``"sigmoid"`` or
            ``"log_softmax"``; ``""`` where it gives logits.
    """

    name: str
    weights: str
    layer: str
    weights_file: str = field(default="", compare=False)
    grid: str = ""
    activation: Activation = "softmax"
    output: str = ""
    probabilities: str = ""

    @property
    def scoring(self) -> Activation:
        """What turns the logits of the classifier as it runs here into scores."""
        return scoring(self.activation, self.probabilities)


class Backbone:
    """A frozen classifier with a target layer.

    Attributes:
        network: The whole classifier, in eval mode, no parameter requiring gradients.
        identity: Name, weights and layer.
        class_names: R names.
        preprocess: What turns a picture into its input.
        gradients_end: Why the logits have no gradient at A, in words; empty where they have one.
        notes: What the user should know of the network, a line each.
        one_by_one: Why pictures must go through it one by one; ``""`` where they need not.
    """

    def __init__(
        self,
        network: Network,
        layer: str | None = None,
        *,
        grid: str = "",
        activation: str | None = None,
        output: str = "",
        probabilities: str | None = None,
    ) -> None:
        self.preprocess = network.preprocess
        side = self.preprocess.image_size
        # Values, not zeros, so that the check of the split below can see a difference.
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randn(2, 3, side, side, generator=generator)
        picture = pictures[:1]
        self._own_grid = network.grid
        told = grid or network.grid
        places = parse_grid(told) if told else None
        plain = plain_classifier(
            network,
            picture,
            output=output,
            activation=activation,
            probabilities=probabilities,
        )
        self.network, whole = plain.module, plain.logits
        self.notes, self.one_by_one = plain.notes, plain.one_by_one
        self._device = torch.device("cpu")
        self._no_layer = ""
        target = self._find_target(network.name, layer, picture, places)
        self.identity = Identity(
            network.name,
            network.weights,
            target.call.name if target else "",
            network.weights_file,
            grid,
            plain.activation,
            output,
            plain.probabilities,
        )
        if whole.shape[1] == 1 and plain.activation == "softmax":
            raise LcamError(
                f"{network.name} gives a single logit, whose softmax score is always 1",
                "give --activation sigmoid",
            )
        self._layer = self.identity.layer
        self._grids: dict[str, Grid | None] = {}
        self._split: Halves | None = None
        self._shape = (0, *_CELLS)
        self.gradients_end = ""
        if target is not None:
            self._target: Target = target
            self._layout: Layout = target.layout
            some = pictures if plain.takes_several else picture
            A, _, around = self._choose_way(some)
            self._shape = (A.shape[1], A.shape[2], A.shape[3])
            self.gradients_end = self._find_end_of_gradients(A, lambda A: self.head(A, around))
        self.class_names = network.class_names or [str(r) for r in range(whole.shape[1])]
        if len(self.class_names) != whole.shape[1]:
            raise LcamError(
                f"{len(self.class_names)} class names for {whole.shape[1]} classes",
                "give a --classes file with one name a line, in the classifier's order",
            )

    @property
    def num_classes(self) -> int:
        """R, the number of classes."""
        return len(self.class_names)

    @property
    def has_layer(self) -> bool:
        """Whether it has a target layer; without, there are scores alone, and A has no channels."""
        return not self._no_layer

    def need_layer(self, method: str) -> None:
        """Check that a method that looks at the target layer has one.

        Raises:
            LcamError: There is none.
        """
        if self._no_layer:
            parts = [name for name in scripts_in(self.network) if name]
            hint = f"if it gives feature maps: --layer {parts[-1]}; " if parts else ""
            raise LcamError(
                f"{method} looks at a layer, and {self._no_layer}", hint + _SCORES_ALONE
            )

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(K, P, Q) of A.

        Raises:
            LcamError: It has no target layer.
        """
        self.need_layer("this")
        return self._shape

    def _find_target(
        self, name: str, layer: str | None, picture: Tensor, places: tuple[int, int] | None
    ) -> Target | None:
        """The target layer, typed or found; None where a compiled network shows none."""
        if layer is not None:
            layer = plain_layer(self.network, layer)
            if inside_script(self.network, layer):
                raise LcamError(
                    f"layer {layer!r} of {name} lies in a TorchScript module, whose layers cannot "
                    "be seen from outside",
                    _SCORES_ALONE,
                )
            return locate_target(self.network, layer, picture, places)
        try:
            return find_target(self.network, picture, places)
        except LcamError:
            if is_quantised(self.network):
                self._no_layer = f"the layers of {name} are quantised: they give no real numbers"
                return None
            if not scripts_in(self.network):
                raise
        part = "" if "" in scripts_in(self.network) else "partly "
        self._no_layer = f"{name} is {part}TorchScript, whose layers cannot be seen from outside"
        return None

    @cached_property
    def grid(self) -> Grid | None:
        """Where the cells of A lie in the picture; None where that is not known."""
        return self.grid_of(self._layer)

    def grid_of(self, layer: str) -> Grid | None:
        """The same for the outputs of another layer."""
        if layer not in self._grids:
            (call,) = self.calls_of([layer])
            self._grids[layer] = find_grid(self.network, layer, call.later, self.blank())
        return self._grids[layer]

    @contextlib.contextmanager
    def watch(self, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Keep what other layers give, by name, while :meth:`forward` runs.

        Only layers that hold the target layer inside them are not seen. What they gave is there
        when the block ends.
        """
        caught: dict[str, Tensor] = {}
        calls = dict(zip(layers, self.calls_of(layers), strict=True))
        with listen(self.network, calls.values()) as heard:
            yield caught
        for layer, call in calls.items():
            output = heard[call.name].output
            if torch.is_tensor(output):
                caught[layer] = _usable(output)

    def calls_of(self, layers: Sequence[str]) -> list[Call]:
        """Which of a layer's calls is meant: its last that gives feature maps on the way to A.

        Where there is none on that way, the last in the whole pass.

        Raises:
            LcamError: There is no layer of that name.
        """
        return [self._place_of(layer).call for layer in layers]

    def shapes_of(self, layers: Sequence[str]) -> list[tuple[int, int, int]]:
        """(K, P, Q) of the outputs of other layers.

        Raises:
            LcamError: There is no such layer, or it gives no feature maps on the way to the target
                layer.
        """
        shapes = []
        for layer in layers:
            shape = self._place_of(layer).shape
            if shape is None:
                raise LcamError(
                    f"layer {layer!r} gives no feature maps before {self._layer!r} does",
                    "name layers in the order of the network, the last one last",
                )
            shapes.append(shape)
        return shapes

    def _place_of(self, layer: str) -> Place:
        name = resolve_layer(self.network, layer)
        return self._target.places.get(name, Place(Call(name), None))

    @property
    def differentiable(self) -> bool:
        """Whether the logits have a gradient at A."""
        return not self.gradients_end

    @property
    def is_split(self) -> bool:
        """Whether ``head`` runs only what follows the layer, not the whole network."""
        return self._split is not None

    def to(self, device: torch.device) -> Backbone:
        """Move the network to ``device``, in channels-last layout; returns itself."""
        self._device = device
        # The halves share parameters, which move with the network, but buffers are replaced in it.
        for part in (self.network, *(self._split or ())):
            part.to(device=device, memory_format=torch.channels_last)
        return self

    def __call__(self, x: Tensor) -> Tensor:
        """Run the whole network: normalised (B, 3, H, W) to logits (B, R)."""
        with self._keeping_gradients():
            return _usable(cast(Tensor, self.network(x.clone())))  # it may change it in place

    def features(self, x: Tensor) -> Tensor:
        """Run the network up to the target layer: normalised (B, 3, H, W) to A (B, K, P, Q)."""
        if self._split:
            return self._before(self._split[0], x)[0]
        # To the end: only then is it known which of the layer's calls was the last.
        return self.forward(x)[0]

    def head(self, A: Tensor, around: Sequence[Tensor]) -> Tensor:
        """Run the rest of the network on A (B, K, P, Q): logits (B, R).

        Args:
            A: The feature maps, possibly changed.
            around: What :meth:`forward` gave with them. A network that could not be split is run
                again, with A put in the layer's place; class tokens stay as they were.

        Raises:
            LcamError: A network that could not be split runs the layer less often than it did.
        """
        with self._keeping_gradients():
            if self._split is None:
                return self._head_of_whole(A, *around)
            # Copies: a head may begin with an in-place ReLU, or add to a residual in place.
            given = [t.clone() for t in (A, *around)]
            prefix = 1 if self._layout.prefix else 0
            output = self._layout.unfold(given[0], *given[1 : 1 + prefix])
            return _usable(cast(Tensor, self._split[1](output, *given[1 + prefix :])))

    def _head_of_whole(self, A: Tensor, x: Tensor, numbers: Tensor) -> Tensor:
        """The head where the network is run again: call ``numbers`` (B,) of the layer gives A."""
        if (numbers != numbers[:1]).any():  # pictures on which it did not run equally often
            rows = zip(*(torch.split(t, 1) for t in (A, x, numbers)), strict=True)
            return torch.cat([self._head_of_whole(*row) for row in rows])
        number = int(numbers[0])
        A = A.clone()

        def put_back(output: Tensor) -> Tensor:
            changed = self._layout.unfold(A, output)
            return output.copy_(changed) if self._target.in_place else changed

        with replace(self.network, self._layer, number, put_back) as heard:
            logits = cast(Tensor, self.network(x.clone()))
        if heard.count <= number:
            raise LcamError(
                f"layer {self._layer} ran {number + 1} times on a picture, and then {heard.count} "
                "times on the same",
                "give the network a forward() that does not depend on the other pictures of a "
                "batch, or --batch-size 1",
            )
        return _usable(logits)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Features, logits and what goes around the layer, in one pass.

        Returns:
            A (B, K, P, Q), logits (B, R), and what :meth:`head` needs besides A, each with the
            batch first: nothing where the network goes through the layer alone; class tokens and
            residuals; where the network could not be split ``x`` itself, and which of the layer's
            calls gave A, int64.

        Raises:
            LcamError: The layer does not run on these pictures, or gives something else.
        """
        if not self.has_layer:
            return x.new_zeros(len(x), *self._shape), self(x), ()
        if self._split:
            A, around = self._before(self._split[0], x)
            return A, self.head(A, around), around
        call = self._target.call
        with self._keeping_gradients(), listen(self.network, [call]) as heard:
            logits = cast(Tensor, self.network(x.clone()))
        output, number = heard[call.name].output, heard[call.name].number
        if not torch.is_tensor(output) or output.ndim != self._output_axes or len(output) != len(x):
            raise LcamError(
                f"layer {call.name} does not give on these pictures what it gave at the start",
                "name a layer that runs on every picture: --layer NAME",
            )
        numbers = torch.full((len(x),), number, dtype=torch.int64, device=x.device)
        return self._layout.fold(_usable(output)), _usable(logits), (x, numbers)

    @property
    def _output_axes(self) -> int:
        return 3 if self._layout.kind == "list" else 4

    def _before(self, half: nn.Module, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A, and what goes around it, of the first half of a network that is split."""
        output, *around = (_usable(t) for t in half(x.clone()))
        n = self._layout.prefix
        return self._layout.fold(output), (*([output[:, :n]] if n else []), *around)

    def _keeping_gradients(self) -> contextlib.AbstractContextManager[object]:
        """Where gradients are wanted, do not let the network's own code switch them off."""
        asked = self.has_layer and torch.is_grad_enabled()
        if asked and self._target.switches_gradients_off:
            return KeepGradients()
        return contextlib.nullcontext()

    def class_index(self, name_or_index: str) -> int:
        """Find a class by its name, in any case where only one has it, or by its index.

        Raises:
            LcamError: No class has that name or index, and the message suggests near ones; or
                several have that name, as ``CARDIGAN`` is a dog and a jacket of ImageNet.
        """
        wanted = name_or_index.strip()
        lowered = wanted.lower()
        for same in (
            [i for i, name in enumerate(self.class_names) if name == wanted],
            [i for i, name in enumerate(self.class_names) if name.lower() == lowered],
        ):
            if len(same) > 1:
                listed = f"{', '.join(map(str, same[:-1]))} and {same[-1]}"
                raise LcamError(f"{name_or_index!r} names classes {listed}", "give the index")
            if same:
                return same[0]
        if lowered.isdecimal():  # not "²", which is a digit and no number
            if int(lowered) < self.num_classes:
                return int(lowered)
            raise LcamError(
                f"class index {lowered} is out of range",
                f"this classifier has classes 0 to {self.num_classes - 1}",
            )
        raise LcamError(
            f"no class named {name_or_index!r}",
            did_you_mean(name_or_index, self.class_names)
            or "give an index, or a name as in --classes",
        )

    def linear_head(self) -> nn.Linear | None:
        """Return the head's linear layer (K to R) where all before it is global average pooling.

        A trailing linear layer of K inputs is not enough (there may be more before it), so the
        head is tried: on random feature maps it must give that layer's output on their means.
        """
        linear = [m for m in self.network.modules() if isinstance(m, nn.Linear)]
        K, P, Q = self.feature_shape
        if not linear or linear[-1].weight.shape != (self.num_classes, K):
            return None
        last = linear[-1]
        generator = torch.Generator().manual_seed(0)
        count = 1 if self.one_by_one else 2
        A = torch.randn(count, K, P, Q, generator=generator).to(last.weight)
        with torch.no_grad():
            *_, around = self.forward(self.blank().expand(count, -1, -1, -1))
            pooled = last(A.mean((2, 3)))
            close = torch.allclose(self.head(A, around), pooled, rtol=1e-3, atol=1e-4)
        return last if close else None

    def with_head(self, head: nn.Module, *, weights: str, weights_file: str) -> Backbone:
        """Make another classifier: the same features, and ``head`` on A (B, K, P, Q) alone.

        This one is of no use afterwards: both share their modules.

        Args:
            head: Gives logits (B, R).
            weights: What identifies the new classifier's weights.
            weights_file: Where they were read.

        Raises:
            LcamError: The network cannot be cut at its target layer.
        """
        identity = self.identity
        new = _OnMaps(self._layout, head)
        module = with_head(self.network, self._target.call, new, self.blank())
        if module is None:
            raise LcamError(
                f"{identity.name} cannot be cut at layer {identity.layer}: torch.fx does not "
                "trace it",
                "give it a forward() without branches on values",
            )
        network = Network(
            module,
            identity.name,
            weights,
            weights_file,
            self.class_names,
            self.preprocess,
            self._own_grid,
        )
        other = Backbone(
            network,
            identity.layer,
            grid=identity.grid,
            activation=identity.scoring,
            probabilities="",  # what it ended with is gone
        )
        other.identity = dataclasses.replace(identity, weights=weights, weights_file=weights_file)
        return other

    def blank(self) -> Tensor:
        """An input, (1, 3, H, W), where the network is."""
        side = self.preprocess.image_size
        return torch.zeros(1, 3, side, side, device=self._device)

    # --- the quickest way that is right -----------------------------------------------------------

    @torch.no_grad()
    def _choose_way(self, pictures: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Change how the network computes to the quickest way that gives what it gave untouched.

        Args:
            pictures: Two, (2, 3, H, W).

        Returns:
            A and logits of them, and what goes around.

        Raises:
            LcamError: A put back in the layer's place does not give the logits, in any way.
        """
        A, logits, around = self.forward(pictures)
        _, gradient = self._logits_and_gradient(A, around)
        other = pictures[:1].flip(2)
        undo = self._quicken(other)
        # A trace leaves out what is only decided on values; folding, what happens beside a call.
        for quick in (True, False):
            if not quick:
                undo()
            for halves in (self._cut(other), None):
                self._split = halves
                found = self._around_if_right(pictures, A, logits, gradient)
                if found is not None:
                    return A, logits, found
        raise self._why_not(pictures, logits)

    def _cut(self, picture: Tensor) -> Halves | None:
        """The network in two; None where it cannot be cut.

        Args:
            picture: Another than those that tell whether the halves are right: what the network
                keeps of a pass, and a trace takes for a constant, is wrong for them.
        """
        self._split = None
        try:
            self(picture.clone())
        except Exception:  # a changed network can fail in any way
            return None
        return split(self.network, self._target.call, picture)

    def _quicken(self, picture: Tensor) -> Callable[[], None]:
        """Fold batch norms and have activations save memory; returns what undoes it."""
        replaced = replace_batch_norms(self.network, self._layer, picture)
        undo_in_place = _in_place_without_gradients(self.network)

        def undo() -> None:
            undo_in_place()
            for name, module in replaced.items():
                put(self.network, name, module)

        return undo

    def _around_if_right(
        self, pictures: Tensor, A: Tensor, logits: Tensor, gradient: Tensor | None
    ) -> tuple[Tensor, ...] | None:
        """What goes around; None unless A, logits and gradient are the untouched network's."""
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # where torch.fx tells of errors
                if self._split and _holds_output(self._split[0](pictures[:1].clone())):
                    return None
                found, whole, around = self.forward(pictures)
                if not all(torch.is_tensor(t) and len(t) == len(pictures) for t in around):
                    return None
                # Where it is split, forward has run the head, and not the whole.
                other = self(pictures[:1].clone()) if self._split else whole[:1]
                # Where gradients are wanted activations do not compute in place.
                again, g = self._logits_and_gradient(found, around)
        except Exception:  # graphs and changed modules can fail in any way
            return None
        right = close(found, A) and all(close(z, logits) for z in (whole, again))
        right = right and _same_gradient(g, gradient)
        return around if right and close(other, logits[:1]) else None

    def _logits_and_gradient(
        self, A: Tensor, around: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """The logits of A, and at A the gradient of a sum of them; None where there is none.

        A trace looks into functions that have a gradient of their own, and would take another.
        """
        start = A.detach().clone().requires_grad_()
        with torch.enable_grad():
            logits = self.head(start, around)
            generator = torch.Generator().manual_seed(0)
            weights = torch.randn(logits.shape, generator=generator).to(logits)
            total = (logits * weights).sum()
        try:
            (g,) = torch.autograd.grad(total, start, allow_unused=True)
        except RuntimeError:  # there is none, or what it needs was changed in place
            g = None
        return logits.detach(), g

    def _why_not(self, pictures: Tensor, logits: Tensor) -> LcamError:
        """What to say of a network whose logits are not those of its features."""
        if not close(self(pictures.clone()), logits):
            return by_chance()
        return LcamError(
            f"what layer {self._layer} gives, put back in its place, does not give the logits of "
            f"{self.identity.name}",
            "name another layer: --layer NAME; or give the network a forward() that uses what the "
            "layer returns",
        )

    # --- gradients --------------------------------------------------------------------------------

    @cached_property
    def picture_gradients_end(self) -> str:
        """Why the logits have no gradient at the picture, in words; empty where they have one."""
        return self._find_end_of_gradients(self.blank(), lambda x: self(x * 1))

    def _find_end_of_gradients(self, start: Tensor, run: Callable[[Tensor], Tensor]) -> str:
        """Where gradients end between the logits ``run`` gives and its ``start``; empty if nowhere.

        A gradient that is zero is one: what else a picture may give cannot be known.
        """
        start = start.detach().clone().requires_grad_()
        why = _why_no_gradient(start, run)
        if not why:
            return ""
        ends: list[str] = []

        def look(name: str, module: nn.Module, given: tuple[object, ...], output: object) -> None:
            wanted = [t for t in given if torch.is_tensor(t) and t.requires_grad]
            if wanted and torch.is_tensor(output) and not _reached(output, wanted):
                ends.append(f"they end at {name} ({type(module).__name__})")

        with contextlib.ExitStack() as stack:
            for name, module in self.network.named_modules():
                if name:  # the innermost ends first
                    handle = module.register_forward_hook(partial(look, name))
                    stack.callback(handle.remove)
            _why_no_gradient(start, run)
        return ends[0] if ends else why


def load_backbone(
    name: str | nn.Module,
    weights: str = "DEFAULT",
    *,
    layer: str | None = None,
    grid: str = "",
    activation: str | None = None,
    output: str = "",
    probabilities: str | None = None,
    classes: Path | Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a classifier, frozen and split at its target layer.

    Args:
        name: A torchvision classifier, ``timm/NAME``, ``package.module:function``,
            ``file.py:function``, or a network itself, which is copied.
        weights: ``"DEFAULT"``, the name of torchvision's or timm's weights, ``"none"`` or a file.
        layer: Name of the module whose output is A; default the last convolutional features, or a
            transformer's last patches that reach the classifier.
        grid: ``"PxQ"``: a transformer's patches, where their number does not tell.
        activation: ``"softmax"``, ``"sigmoid"`` for several classes a picture, or ``"none"`` where
            the network gives scores; default softmax, or what its last step is seen to be.
        output: Which of several outputs are the logits: a key or an index.
        probabilities: The last step to take off, as a file says; default what is seen.
        classes: Class names, or a file with one a line; default what the weights are known for.
        preprocess: Default what the weights were trained with.
        seed: For ``weights="none"``.

    Raises:
        LcamError: Anything of the above that does not exist or does not fit.
    """
    if isinstance(name, nn.Module):
        if weights != "DEFAULT":
            raise LcamError(
                f"a {type(name).__name__} has its weights in it",
                "load them into it; leave weights out",
            )
        network = live_network(name)
    elif isinstance(name, str):
        network = load_network(name, weights, seed=seed)
    else:
        raise TypeError(f"a backbone is a name or a torch.nn.Module, not a {type(name).__name__}")
    if classes is not None:
        network.class_names = (
            read_class_names(classes) if isinstance(classes, Path) else list(classes)
        )
    if preprocess is not None:
        network.preprocess = preprocess
    return Backbone(
        network,
        layer,
        grid=grid,
        activation=activation,
        output=output,
        probabilities=probabilities,
    )


def _in_place_without_gradients(network: nn.Module) -> Callable[[], None]:
    """Have bounded and smooth activations write to new memory where gradients are wanted.

    In place they would first copy their input, which their gradient needs; ReLU's needs only its
    output. Without gradients in place is quicker: an eighth of MobileNetV2's forward pass.

    Returns:
        What has them be as they were.
    """

    def choose(module: nn.Module, _given: object) -> None:
        module.inplace = not torch.is_grad_enabled()  # type: ignore[assignment]

    # ReLU6 is a Hardtanh. Those in place already: nothing else needs their input.
    found = [
        module
        for module in network.modules()
        if isinstance(module, nn.Hardtanh | nn.Hardswish | nn.SiLU) and module.inplace
    ]
    handles = [module.register_forward_pre_hook(choose) for module in found]

    def undo() -> None:
        for module, handle in zip(found, handles, strict=True):
            handle.remove()
            module.inplace = True

    return undo


def _why_no_gradient(start: Tensor, run: Callable[[Tensor], Tensor]) -> str:
    """Why ``run(start)`` has no gradient at ``start``, in words; empty where it has one."""
    try:
        with torch.enable_grad():
            if _reached(run(start), [start]):
                return ""
    except RuntimeError as error:  # an operation that does not know its gradient
        return str(error).partition("\n")[0]
    return "its forward() computes them without gradients"


def _same_gradient(found: Tensor | None, expected: Tensor | None) -> bool:
    """Whether a gradient is the expected one, as a whole: rounding may turn a few units off."""
    if expected is None or not expected.isfinite().all():
        return True
    return found is not None and bool((found - expected).norm() <= 1e-2 * expected.norm())


def _reached(output: Tensor, given: Sequence[Tensor]) -> bool:
    """Whether ``output`` has a gradient at one of the tensors that it was made of."""
    if not output.requires_grad:
        return False
    with warnings.catch_warnings():  # of operations that pass none on, which is what is asked
        warnings.simplefilter("ignore")
        found = torch.autograd.grad(output.sum(), given, retain_graph=True, allow_unused=True)
    return any(g is not None for g in found)


class _OnMaps(nn.Module):
    """A head that takes A (B, K, P, Q), whatever the layout of the layer's output."""

    def __init__(self, layout: Layout, head: nn.Module) -> None:
        super().__init__()
        self._layout = layout
        self.head = head

    def forward(self, output: Tensor) -> Tensor:
        return cast(Tensor, self.head(self._layout.fold(output)))


def _holds_output(given: tuple[object, ...]) -> bool:
    """Whether what goes around a layer is its output itself: an in-place layer's input."""
    output, *around = given
    return any(share_memory(output, other) for other in around)


def _usable(tensor: Tensor) -> Tensor:
    """The same outside of ``torch.inference_mode``, whose tensors can take no part in gradients."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return tensor.clone()
    return tensor
