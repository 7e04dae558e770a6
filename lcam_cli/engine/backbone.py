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
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.activation import Activation, check_activation
from lcam_cli.engine.folding import fold_batch_norms
from lcam_cli.engine.grid import Grid, find_grid
from lcam_cli.engine.layers import check_layer, find_target_layer
from lcam_cli.engine.live import live_network
from lcam_cli.engine.networks import Network, load_network, read_class_names
from lcam_cli.engine.split import split, with_head
from lcam_cli.engine.tokens import Layout, find_layout, parse_grid
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.images.preprocess import Preprocess

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
        activation: What turns its logits into scores.
    """

    name: str
    weights: str
    layer: str
    weights_file: str = field(default="", compare=False)
    grid: str = ""
    activation: Activation = "softmax"


class Backbone:
    """A frozen classifier with a target layer.

    Attributes:
        network: The whole classifier, in eval mode, no parameter requiring gradients.
        identity: Name, weights and layer.
        class_names: R names.
        preprocess: What turns a picture into its input.
        feature_shape: (K, P, Q) of A.
    """

    def __init__(
        self,
        network: Network,
        layer: str | None = None,
        *,
        grid: str = "",
        activation: str = "softmax",
    ) -> None:
        self.network = network.module.eval().requires_grad_(False)
        self.preprocess = network.preprocess
        side = self.preprocess.image_size
        # Values, not zeros, so that the check of the split below can see a difference.
        generator = torch.Generator().manual_seed(0)
        picture = torch.randn(1, 3, side, side, generator=generator)
        self._own_grid = network.grid
        told = grid or network.grid
        places = parse_grid(told) if told else None
        whole = self._run_whole(network.name, picture)
        if layer is None:
            layer = find_target_layer(self.network, picture, places)
        check_layer(self.network, layer)
        self.identity = Identity(
            network.name,
            network.weights,
            layer,
            network.weights_file,
            grid,
            check_activation(activation),
        )
        if whole.shape[1] == 1 and activation == "softmax":
            raise LcamError(
                f"{network.name} gives a single logit, whose softmax score is always 1",
                "give --activation sigmoid",
            )
        fold_batch_norms(self.network, keep=layer)
        _in_place_without_gradients(self.network)
        self._layer = layer
        self._grids: dict[str, Grid | None] = {}
        self._layout = self._find_layout(picture, places)
        self._split = split(self.network, layer)
        A, logits = self._check_split(picture, whole)
        self.feature_shape: tuple[int, int, int] = (A.shape[1], A.shape[2], A.shape[3])
        self.class_names = network.class_names or [str(r) for r in range(logits.shape[1])]
        if len(self.class_names) != logits.shape[1]:
            raise LcamError(
                f"{len(self.class_names)} class names for {logits.shape[1]} classes",
                "give a --classes file with one name a line, in the classifier's order",
            )

    @property
    def num_classes(self) -> int:
        """R, the number of classes."""
        return len(self.class_names)

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
            self.features(self._blank())
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
        A = torch.randn(2, K, P, Q, generator=generator).to(last.weight)
        with torch.no_grad():
            *_, around = self.forward(self._blank().expand(2, -1, -1, -1))
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
        return Backbone(network, identity.layer, grid=identity.grid, activation=identity.activation)

    def _blank(self) -> Tensor:
        """An input, (1, 3, H, W), where the network is."""
        side = self.preprocess.image_size
        parameter = next(self.network.parameters())
        return torch.zeros(1, 3, side, side).to(parameter)

    def _run_whole(self, name: str, picture: Tensor) -> Tensor:
        """Run the network once: logits (1, R), if it is a classifier.

        Raises:
            LcamError: It fails on a picture of this size, or gives something else.
        """
        try:
            with torch.no_grad():
                whole = self.network(picture.clone())
        except (RuntimeError, AssertionError, ValueError) as error:
            raise LcamError(
                f"{name} fails on a {tuple(picture.shape)} input: {error}",
                "set --image-size to what it was trained with",
            ) from error
        if not torch.is_tensor(whole) or whole.ndim != 2:
            raise LcamError(
                f"{name} gives {_shape(whole)}, not logits (B, R)",
                "wrap it in a module that returns its class scores",
            )
        return whole

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
    name: str | nn.Module,
    weights: str = "DEFAULT",
    *,
    layer: str | None = None,
    grid: str = "",
    activation: str = "softmax",
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
        activation: ``"softmax"``, or ``"sigmoid"`` for several classes a picture.
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
    return Backbone(network, layer, grid=grid, activation=activation)


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
