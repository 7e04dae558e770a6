"""The frozen classifier f: images in, features A of its target layer and logits out.

It knows its classes, how its images are prepared, and what identifies it. The network itself is
run by its :class:`~lcam_cli.engine.cut.Cut` at the target layer. A network that shows no layers, as
TorchScript, has none: then there are scores alone.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lcam_cli.engine.calls import Call
from lcam_cli.engine.channels import Channels
from lcam_cli.engine.gradients import find_end_of_gradients
from lcam_cli.engine.grid import Grid, find_grids
from lcam_cli.engine.identity import Identity
from lcam_cli.engine.layer_calls import LayerCalls
from lcam_cli.engine.layers import Target, choose_target
from lcam_cli.engine.optimise import cut_at_target
from lcam_cli.engine.plain import plain_classifier, some_pictures
from lcam_cli.engine.runnable import Runnable
from lcam_cli.engine.split import with_head
from lcam_cli.engine.tokens import Layout, OnMaps, parse_grid
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.class_names import find_class, read_class_names
from lcam_cli.networks.foreign import ForeignNetwork
from lcam_cli.networks.module import copy_of, module_network
from lcam_cli.networks.network import Network
from lcam_cli.networks.registry import load_network

# Where there is no target layer: as many cells as RISE's masks have.
_CELLS = (7, 7)

_NOTHING_SAID = Channels()

_COPY = "remove from the network what copy.deepcopy cannot copy"


class Backbone(Runnable):
    """A frozen classifier with a target layer.

    Attributes:
        network: The whole classifier, in eval mode, no parameter requiring gradients.
        identity: Name, weights and layer.
        class_names: R names.
        preprocess: What turns an image into its input.
        gradients_end: Why the logits have no gradient at A, in words; empty where they have one.
        notes: What the user should know of the network, a line each.
        one_by_one: Why images must go through it one by one; ``""`` where they need not.
        writes_to_results: Whether its own code is known to change in place what gradients at some
            layer need (``engine.taps``).

    One that is ``redrawable`` is a copy of the network given, which keeps all its modules, so that
    weights changed in place (``engine.cascade``) are those that it runs with.
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
        channels: Channels = _NOTHING_SAID,
        redrawable: bool = False,
    ) -> None:
        super().__init__()
        own = network.preprocess
        asked = channels.count or own.channels
        self._redrawable = redrawable
        if redrawable:
            _check_weights(network)
            network = dataclasses.replace(network, module=copy_of(network.module, _COPY))
        self._own_grid = network.grid
        known_grid = grid or network.grid
        self._patches = patches = parse_grid(known_grid) if known_grid else None
        if isinstance(network.module, ForeignNetwork):
            layer = network.module.cut_at(layer, output, (asked, own.height, own.width))
        plain = plain_classifier(
            network,
            some_pictures(1, channels.tried_with(own, asked)),
            output=output,
            activation=activation,
            probabilities=probabilities,
            find_channels=channels.count is None,
        )
        self.preprocess = channels.applied_to(own, plain.channels, network.name)
        pictures = some_pictures(2, self.preprocess)
        self.network, whole = plain.module, plain.logits
        self.notes, self.one_by_one = plain.notes, plain.one_by_one
        note = channels.note(
            network.name,
            own,
            plain.channels,
            found=plain.channels != asked,
            known=network.normalisation_known,
        )
        if note is not None:
            self.notes.insert(0, note)
        if whole.shape[1] == 1 and plain.activation == "softmax":
            raise LcamError(
                f"{network.name} returns a single logit, whose softmax score is always 1",
                "pass --activation sigmoid",
            )
        known = cut_at_target(
            plain, network.name, layer, pictures, patches, keep_modules=redrawable
        )
        self._cut = cut = known[0] if known else None
        target = cut.target if cut else None
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
        self._grids: dict[str, Grid | None] = {}
        self._others: dict[str, Target] = {}
        self._layer_calls = LayerCalls(
            self.network, self.identity.layer, target.layer_calls if target else {}
        )
        self._takes_several = plain.takes_several
        self._shape = (0, *_CELLS)
        self.gradients_end = ""
        self.writes_to_results = False
        if known is not None:
            cut, found = known
            A, around = found.A, found.around
            self._shape = (A.shape[1], A.shape[2], A.shape[3])
            self.gradients_end = self._no_gradients
            if not (found.differentiable or self.gradients_end):
                self.gradients_end = find_end_of_gradients(
                    self.network, A, lambda A: cut.head(A, around)
                )
        self.class_names = network.class_names or [str(r) for r in range(whole.shape[1])]
        if len(self.class_names) != whole.shape[1]:
            raise LcamError(
                f"{len(self.class_names)} class names for {whole.shape[1]} classes",
                "pass a --classes file with one name per line, in the classifier's order",
            )

    @property
    def num_classes(self) -> int:
        """R, the number of classes."""
        return len(self.class_names)

    @property
    def has_layer(self) -> bool:
        """Whether it has a target layer; without, there are scores alone, and A has no channels."""
        return self._cut is not None

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(K, P, Q) of A.

        Raises:
            LcamError: It has no target layer.
        """
        self.need_layer("this")
        return self._shape

    @property
    def layout(self) -> Layout:
        """How what the target layer gives is read as A.

        Raises:
            LcamError: It has no target layer.
        """
        return self._need_cut().layout

    @cached_property
    def grid(self) -> Grid | None:
        """Where the cells of A lie in the image; None where that is not known."""
        return self.grid_of(self.identity.layer) if self.has_layer else None

    def grid_of(self, layer: str) -> Grid | None:
        """The same for the outputs of another layer."""
        return self._find_grids([layer])[0]

    def grids_of(self, layers: Sequence[str]) -> list[Grid] | None:
        """The same for several layers, at least one; None where one of them is not known."""
        grids = self._find_grids(layers)
        known = [grid for grid in grids if grid is not None]
        return known if len(known) == len(grids) else None

    def _find_grids(self, layers: Sequence[str]) -> list[Grid | None]:
        """Those of some layers; a forward pass finds all that were not asked for before."""
        new = [layer for layer in dict.fromkeys(layers) if layer not in self._grids]
        if new:
            with self._way.running(self._device):
                found = find_grids(self.network, self.calls_of(new), self.blank(), self._patches)
            self._grids.update(zip(new, found, strict=True))
        return [self._grids[layer] for layer in layers]

    def calls_of(self, layers: Sequence[str]) -> list[Call]:
        """Which of each layer's calls is meant: see :meth:`LayerCalls.calls_of`.

        Raises:
            LcamError: There is no layer of that name.
        """
        return self._layer_calls.calls_of(layers)

    def layouts_of(self, layers: Sequence[str]) -> list[Layout | None]:
        """How what other layers give is read: see :meth:`LayerCalls.layouts_of`."""
        return self._layer_calls.layouts_of(layers)

    def in_order(self, layers: Sequence[str]) -> list[str]:
        """Some layers in the order in which they run: see :meth:`LayerCalls.in_order`."""
        return self._layer_calls.in_order(layers)

    def at(self, layer: str) -> Backbone:
        """The same classifier with another target layer.

        Both share the network, which the other runs whole, with features put in their place.

        Args:
            layer: Its name.

        Raises:
            LcamError: There is no such layer, it gives nothing with places, or nothing that the
                logits depend on; or another runtime computes the network, and shows one layer.
        """
        if isinstance(self.network, ForeignNetwork):
            raise LcamError(
                f"{self.identity.name} has only one layer that can be explained, "
                f"{self.identity.layer}",
                "pass one --layer",
            )
        cut = copy.copy(self._need_cut())
        if layer == self.identity.layer:
            return self
        if layer not in self._others:
            # No blank one: where a network gives nothing, nothing depends on the layer.
            picture = self.blank().copy_(some_pictures(1, self.preprocess))
            name = self.identity.name
            with self._way.running(self._device):
                target = choose_target(self.network, name, layer, picture, self._patches)
            assert target is not None  # of a layer that is named
            self._others[layer] = target
        target = self._others[layer]
        other = copy.copy(self)
        vars(other).pop("grid", None)  # of this layer
        other.identity = dataclasses.replace(self.identity, layer=target.call.name)
        other._layer_calls = LayerCalls(self.network, target.call.name, target.layer_calls)
        other._cut = cut
        cut.target, cut.halves = target, None
        with torch.no_grad():
            A, _, around = other.forward(self.blank())
        other._shape = (A.shape[1], A.shape[2], A.shape[3])
        other.gradients_end = self._no_gradients or find_end_of_gradients(
            self.network, A, lambda A: other.head(A, around)
        )
        return other

    def shapes_of(
        self, layers: Sequence[str], *, anywhere: bool = False
    ) -> list[tuple[int, int, int]]:
        """(K, P, Q) of the outputs of other layers: see :meth:`LayerCalls.shapes_of`.

        Raises:
            LcamError: There is no such layer, or it gives no feature maps there.
        """
        return self._layer_calls.shapes_of(layers, anywhere=anywhere)

    def watch(self, layers: Sequence[str]) -> contextlib.AbstractContextManager[dict[str, Tensor]]:
        """Keep what other layers give while :meth:`forward` runs: see :meth:`LayerCalls.watch`."""
        return self._layer_calls.watch(layers)

    @property
    def differentiable(self) -> bool:
        """Whether the logits have a gradient at A."""
        return not self.gradients_end

    @cached_property
    def picture_gradients_end(self) -> str:
        """Why the logits have no gradient at the image, in words; empty where they have one."""
        return self._no_gradients or find_end_of_gradients(
            self.network, self.blank(), lambda x: self(x * 1)
        )

    @property
    def _no_gradients(self) -> str:
        """Why a network that PyTorch does not compute has none."""
        if isinstance(self.network, ForeignNetwork):
            return f"{self.network.runtime} computes no gradients"
        return ""

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images that the network is fastest with."""
        foreign = isinstance(self.network, ForeignNetwork)
        return torch.contiguous_format if foreign else torch.channels_last

    def class_index(self, name_or_index: str) -> int:
        """Find a class by its name, in any case where only one has it, or by its index.

        Raises:
            LcamError: No class has that name or index, and the message suggests near ones; or
                several have that name, as ``CARDIGAN`` is a dog and a jacket of ImageNet.
        """
        return find_class(name_or_index, self.class_names)

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
        A = torch.randn(count, K, P, Q, generator=generator).to(self._device)
        with torch.no_grad():
            *_, around = self.forward(self.blank().expand(count, -1, -1, -1))
            with self.float32_head():
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
        identity, target = self.identity, self._need_cut().target
        new = OnMaps(target.layout, head)
        module = with_head(self.network, target.call, new, self.blank())
        if module is None:
            raise LcamError(
                f"{identity.name} cannot be cut at layer {identity.layer}: torch.fx does not "
                "trace it",
                "write its forward() without branches on values",
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
            redrawable=self._redrawable,
        )
        other.identity = dataclasses.replace(identity, weights=weights, weights_file=weights_file)
        return other


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
    redrawable: bool = False,
) -> Backbone:
    """Load a classifier, frozen and split at its target layer.

    Args:
        name: A torchvision classifier, ``timm/NAME``, ``hf/ORG/NAME``, a Hugging Face folder,
            ``FILE.pt2``, ``FILE.onnx``,
            ``package.module:function``, ``file.py:function``, or a network itself, which is copied.
        weights: ``"DEFAULT"``, the name of torchvision's or timm's weights, ``"none"`` or a file.
        layer: Name of the module whose output is A; default the last convolutional features, or a
            transformer's last patches that reach the classifier.
        grid: ``"PxQ"``: a transformer's patches, where their number does not tell.
        activation: ``"softmax"``, ``"sigmoid"`` for several classes an image, or ``"none"`` where
            the network gives scores; default what the network's source says, what its last step
            is seen to be, or softmax.
        output: Which of several outputs are the logits: a key or an index.
        probabilities: The last step to take off, as a file says; default what is seen.
        classes: Class names, or a file with one a line; default what the weights are known for.
        preprocess: Default what the weights were trained with.
        seed: For ``weights="none"``.
        redrawable: Whether its weights will be drawn anew: see :class:`Backbone`.

    Raises:
        LcamError: Anything of the above that does not exist or does not fit.
    """
    if isinstance(name, nn.Module):
        if weights != "DEFAULT":
            raise LcamError(
                f"a {type(name).__name__} contains its weights",
                "load them into it, and remove `weights`",
            )
        network = module_network(name)
    elif isinstance(name, str):
        network = load_network(name, weights, seed=seed)
    else:
        raise TypeError(f"a backbone is a name or a torch.nn.Module, not a {type(name).__name__}")
    if classes is not None:
        network.class_names = (
            read_class_names(classes) if isinstance(classes, Path) else list(classes)
        )
    if preprocess is not None:
        network.preprocess, network.normalisation_known = preprocess, True
    return Backbone(
        network,
        layer,
        grid=grid,
        activation=activation,
        output=output,
        probabilities=probabilities,
        redrawable=redrawable,
    )


def _check_weights(network: Network) -> None:
    """Check that PyTorch has the weights, so that they can be drawn anew.

    Raises:
        LcamError: It has not.
    """
    if isinstance(network.module, ForeignNetwork):
        raise LcamError(
            f"the weights of {network.name} cannot be randomised: {network.module.runtime} holds "
            "them",
            "pass the network itself, in PyTorch",
        )
