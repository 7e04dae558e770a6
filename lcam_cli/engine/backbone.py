"""The frozen classifier f, split at the target layer into features and head.

``features(x) -> A`` is everything up to the target layer, ``head(A, around) -> logits`` the rest;
``around`` is what goes around the layer, such as a residual or a class token. Networks that
torch.fx can trace are split into two graphs that share the network's parameters. What it cannot
trace is run whole, with a hook that reads or replaces the layer's output. What a transformer gives
is read as feature maps (``engine.tokens``).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.activation import Activation
from lcam_cli.engine.folding import fold_batch_norms
from lcam_cli.engine.grid import Grid, find_grid
from lcam_cli.engine.layers import check_layer, find_target_layer
from lcam_cli.engine.networks import Network, load_network, read_class_names
from lcam_cli.engine.plain import plain_classifier, scoring
from lcam_cli.engine.split import split, with_head
from lcam_cli.engine.tokens import Layout, find_layout, parse_grid
from lcam_cli.engine.wrappers import inside_script, plain_layer, scripts_in
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.images.preprocess import Preprocess

_SCORES_ALONE = (
    "without --layer, rise and random work: they need scores alone; for other methods give the "
    "network itself, or torch.export it"
)
# Where there is no target layer: as many cells as RISE's masks have.
_CELLS = (7, 7)
_GRID_HINT = "name the layer and its rows and columns of patches: --layer NAME --grid PxQ"


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
        picture = torch.randn(1, 3, side, side, generator=generator)
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
        layer = self._find_layer(network.name, layer, picture, places)
        self.identity = Identity(
            network.name,
            network.weights,
            layer,
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
        self._layer = layer
        self._grids: dict[str, Grid | None] = {}
        self._split: tuple[nn.Module, nn.Module] | None = None
        self._shape = (0, *_CELLS)
        if self.has_layer:
            fold_batch_norms(self.network, keep=layer)
            _in_place_without_gradients(self.network)
            self._layout = self._find_layout(picture, places)
            self._split = split(self.network, layer)
            A, _ = self._check_split(picture, whole)
            self._shape = (A.shape[1], A.shape[2], A.shape[3])
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
            raise LcamError(
                f"{method} looks at a layer, and {self._no_layer}",
                f"name what a part of it gives: --layer {parts[-1]}" if parts else _SCORES_ALONE,
            )

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(K, P, Q) of A.

        Raises:
            LcamError: It has no target layer.
        """
        self.need_layer("this")
        return self._shape

    def _find_layer(
        self, name: str, layer: str | None, picture: Tensor, places: tuple[int, int] | None
    ) -> str:
        """The target layer, typed or found; ``""`` where a compiled network shows none."""
        if layer is not None:
            layer = plain_layer(self.network, layer)
            if inside_script(self.network, layer):
                raise LcamError(
                    f"layer {layer!r} of {name} lies in a TorchScript module, whose layers cannot "
                    "be seen from outside",
                    _SCORES_ALONE,
                )
            check_layer(self.network, layer)
            return layer
        try:
            return find_target_layer(self.network, picture, places)
        except LcamError:
            if not scripts_in(self.network):
                raise
        part = "" if "" in scripts_in(self.network) else "partly "
        self._no_layer = f"{name} is {part}TorchScript, whose layers cannot be seen from outside"
        return ""

    @cached_property
    def grid(self) -> Grid | None:
        """Where the cells of A lie in the picture; None where that is not known."""
        return find_grid(self.network, self._layer)

    def grid_of(self, layer: str) -> Grid | None:
        """The same for the outputs of another layer."""
        if layer not in self._grids:
            self._grids[layer] = find_grid(self.network, layer)
        return self._grids[layer]

    @contextlib.contextmanager
    def watch(self, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Keep what other layers give, by name, while :meth:`forward` runs.

        Only layers that hold the target layer inside them are not seen.
        """
        caught: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            # A copy: what follows may change the layer's output in place.
            return lambda _module, _given, output: caught.__setitem__(name, output.clone())

        hooks = [self.network.get_submodule(n).register_forward_hook(keep(n)) for n in layers]
        try:
            yield caught
        finally:
            for hook in hooks:
                hook.remove()

    def shapes_of(self, layers: Sequence[str]) -> list[tuple[int, int, int]]:
        """(K, P, Q) of the outputs of other layers.

        Raises:
            LcamError: There is no such layer, or it gives no feature maps on the way to the target
                layer.
        """
        for layer in layers:
            check_layer(self.network, layer)
        with torch.no_grad(), self.watch(layers) as caught:
            self.features(self.blank())
        for layer in layers:
            layout = find_layout(caught.get(layer))
            if layout is None or layout.kind != "maps":
                raise LcamError(
                    f"layer {layer!r} gives no feature maps before {self._layer!r} does",
                    "name layers in the order of the network, the last one last",
                )
        return [(o.shape[1], o.shape[2], o.shape[3]) for o in (caught[n] for n in layers)]

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
        return cast(Tensor, self.network(x))

    def features(self, x: Tensor) -> Tensor:
        """Run the network up to the target layer: normalised (B, 3, H, W) to A (B, K, P, Q)."""
        if self._split:
            return self._before(self._split[0], x)[0]
        return self._layout.fold(cast(Tensor, self._layer_output(x)))

    def head(self, A: Tensor, around: Sequence[Tensor]) -> Tensor:
        """Run the rest of the network on A (B, K, P, Q): logits (B, R).

        Args:
            A: The feature maps, possibly changed.
            around: What :meth:`forward` gave with them. A network that could not be split is run
                again, with A put in the layer's place; class tokens stay as they were.
        """
        if self._split:
            # Copies: a head may begin with an in-place ReLU, or add to a residual in place.
            given = [t.clone() for t in (A, *around)]
            prefix = 1 if self._layout.prefix else 0
            output = self._layout.unfold(given[0], *given[1 : 1 + prefix])
            return cast(Tensor, self._split[1](output, *given[1 + prefix :]))
        A = A.clone()
        (x,) = around
        layer = self.network.get_submodule(self._layer)
        handle = layer.register_forward_hook(
            lambda _module, _given, output: self._layout.unfold(A, output)
        )
        try:
            return cast(Tensor, self.network(x))
        finally:
            handle.remove()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Features, logits and what goes around the layer, in one pass.

        Returns:
            A (B, K, P, Q), logits (B, R), and what :meth:`head` needs besides A, each with the
            batch first: nothing where the network goes through the layer alone; class tokens and
            residuals; ``x`` itself where the network could not be split.
        """
        if not self.has_layer:
            return x.new_zeros(len(x), *self._shape), self(x), ()
        if self._split:
            A, around = self._before(self._split[0], x)
            return A, self.head(A, around), around
        caught: list[Tensor] = []
        layer = self.network.get_submodule(self._layer)
        # A copy: what follows may change the layer's output in place.
        handle = layer.register_forward_hook(lambda _m, _g, output: caught.append(output.clone()))
        try:
            logits = self.network(x)
        finally:
            handle.remove()
        return self._layout.fold(caught[-1]), logits, (x,)

    def _before(self, half: nn.Module, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A, and what goes around it, of the first half of a network that is split."""
        output, *around = half(x)
        n = self._layout.prefix
        return self._layout.fold(output), (*([output[:, :n]] if n else []), *around)

    def _layer_output(self, x: Tensor) -> object:
        """What the target layer gives for (B, 3, H, W), whatever that is; nothing after it runs."""
        caught: list[object] = []

        def stop(_module: nn.Module, _given: object, output: object) -> None:
            caught.append(output)
            raise _ReachedLayerError

        handle = self.network.get_submodule(self._layer).register_forward_hook(stop)
        try:
            self.network(x)
        except _ReachedLayerError:
            pass
        finally:
            handle.remove()
        return caught[0] if caught else None

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
        if lowered.isdigit():
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
        module = with_head(self.network, self._layer, _OnMaps(self._layout, head))
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
        other.identity = replace(identity, weights=weights, weights_file=weights_file)
        return other

    def blank(self) -> Tensor:
        """An input, (1, 3, H, W), where the network is."""
        side = self.preprocess.image_size
        return torch.zeros(1, 3, side, side, device=self._device)

    @torch.no_grad()
    def _find_layout(self, picture: Tensor, grid: tuple[int, int] | None) -> Layout:
        """How the target layer's output is read as feature maps.

        Raises:
            LcamError: It has no places, or none that can be told from its shape.
        """
        output = self._layer_output(picture)
        layout = find_layout(output, grid)
        if layout is not None:
            return layout
        what = f"layer {self._layer!r} gives {_shape(output)}"
        if grid is not None:
            raise LcamError(f"{what}, where {grid[0]}x{grid[1]} places do not fit", _GRID_HINT)
        if torch.is_tensor(output) and output.ndim == 3 and output.shape[1] > 1:
            raise LcamError(f"{what}: which of these tokens are patches is not known", _GRID_HINT)
        raise LcamError(
            f"{what}, not feature maps (B, K, P, Q) or tokens (B, N, K)",
            "name a layer of convolutional features or tokens: --layer NAME",
        )

    @torch.no_grad()
    def _check_split(self, picture: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        """A and logits; without the split where it does not give the ``whole`` network's logits."""
        if self._split:
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # where torch.fx tells of errors
                    A, logits, around = self.forward(picture)
                    if around:  # of two pictures there must be two of each
                        *_, around = self.forward(picture.expand(2, -1, -1, -1).clone())
                by_picture = all(torch.is_tensor(t) and t.shape[:1] == (2,) for t in around)
                # Against the largest logit: those of random weights may be of any size.
                close = (whole - logits).abs().max() <= 1e-3 * whole.abs().max() + 1e-4
                if by_picture and close:
                    return A, logits
            except Exception:  # a trace leaves out what is only decided on values
                pass
            self._split = None
        A, logits, _ = self.forward(picture)
        return A, logits


def load_backbone(
    name: str,
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
        name: A torchvision classifier, ``timm/NAME``, ``package.module:function`` or
            ``file.py:function``.
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
    network = load_network(name, weights, seed=seed)
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


def _in_place_without_gradients(network: nn.Module) -> None:
    """Have bounded and smooth activations write to new memory where gradients are wanted.

    In place they would first copy their input, which their gradient needs; ReLU's needs only its
    output. Without gradients in place is quicker: an eighth of MobileNetV2's forward pass.
    """

    def choose(module: nn.Module, _given: object) -> None:
        module.inplace = not torch.is_grad_enabled()  # type: ignore[assignment]

    for module in network.modules():
        # ReLU6 is a Hardtanh. Those in place already: nothing else needs their input.
        if isinstance(module, nn.Hardtanh | nn.Hardswish | nn.SiLU) and module.inplace:
            module.register_forward_pre_hook(choose)


class _OnMaps(nn.Module):
    """A head that takes A (B, K, P, Q), whatever the layout of the layer's output."""

    def __init__(self, layout: Layout, head: nn.Module) -> None:
        super().__init__()
        self._layout = layout
        self.head = head

    def forward(self, output: Tensor) -> Tensor:
        return cast(Tensor, self.head(self._layout.fold(output)))


class _ReachedLayerError(Exception):
    """Ends a forward pass at the target layer."""


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if torch.is_tensor(value) else f"a {type(value).__name__}"
