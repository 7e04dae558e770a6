"""TAME: class maps from the feature maps of several layers.

Ntrougkas, Gkalelis, Mezaris: TAME: Attention Mechanism Based Feature Fusion for Generating
Explanation Maps of Convolutional Neural Networks, IEEE ISM 2022; T-TAME, IEEE Access 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import (
    class_activation_map,
    is_kernel,
    saliency_map,
    spread,
    upsample,
)
from lcam_cli.methods.base import Maps


@dataclass(frozen=True)
class Form:
    """How features become maps, where the authors' trained files differ from ours.

    Attributes:
        tiles: The cells of all layers tile the image, wherever their receptive fields lie.
        largest: The most rows and columns of the fused map; None for those of the first layer.
        times_class_token: Each patch is multiplied by its layer's class token, number by number
            (T-TAME's version ``TTAME``; its ``TAME`` leaves class tokens out).
        reads_anywhere: It may read layers behind the target layer too, whose patches the logits
            may not depend on.
    """

    tiles: bool = False
    largest: int | None = None
    times_class_token: bool = False
    reads_anywhere: bool = False


OURS = Form()


def fuse(
    maps: Sequence[Tensor], grids: Sequence[Grid] | None, largest: int | None = None
) -> Tensor:
    """Add up maps of several resolutions at the first one's, the largest.

    The paper upsamples the features, puts them side by side, and takes a 1×1 convolution of all.
    Upsampling and a 1×1 convolution can change places, so it is enough to upsample one map a layer.

    Args:
        maps: One a layer, (B, P_i, Q_i), the largest first.
        grids: Where their cells lie; None where they tile the image.
        largest: See :class:`Form`; for maps that tile.

    Returns:
        (B, P_0, Q_0), or fewer rows and columns where ``largest`` says so.
    """
    P, Q = maps[0].shape[1:]
    if largest is not None:
        P, Q = min(P, largest), min(Q, largest)
    total = maps[0] if maps[0].shape[1:] == (P, Q) else upsample(maps[0], (P, Q))
    for i, coarse in enumerate(maps[1:], 1):
        within = None
        if grids is not None:
            within = grids[i].seen_from(grids[0])
        total = total + upsample(coarse, (P, Q), within)
    return total


class Tame:
    """One attention branch a layer, and a row of fusion weights a class.

    Attributes:
        convs: The 1×1 convolution of each layer, batch norm folded into it, (K_i, K_i).
        conv_biases: (K_i,).
        fusions: The part of the fusion that belongs to each layer, (R, K_i).
        bias: Of the fusion, (R,).
        kernels: One a layer, which spreads its map over neighbouring cells (ours:
            :func:`~.attention.spread`), (n, n); empty for the paper's TAME.
        form: How the authors' files differ.
    """

    def __init__(
        self,
        convs: list[Tensor],
        conv_biases: list[Tensor],
        fusions: list[Tensor],
        bias: Tensor,
        kernels: Sequence[Tensor] = (),
        form: Form = OURS,
    ) -> None:
        self.convs = convs
        self.conv_biases = conv_biases
        self.fusions = fusions
        self.bias = bias
        self.kernels = list(kernels)
        self.form = form

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Tame:
        """Make it from a file's tensors.

        Raises:
            ValueError: They are not of these names and shapes; says which are needed.
        """

        def column(name: str) -> list[Tensor]:
            return [tensors[f"{name}{i}"] for i in range(len(tensors)) if f"{name}{i}" in tensors]

        convs, biases, fusions = column("conv"), column("conv_bias"), column("fusion")
        kernels = column("kernel")
        bias = tensors.get("bias")
        if bias is not None and bias.ndim == 1 and convs:
            K, R = [len(own) if own.ndim else 0 for own in biases], len(bias)
            if (
                all(K)
                and [conv.shape for conv in convs] == [(k, k) for k in K]
                and [own.shape for own in biases] == [(k,) for k in K]
                and [fusion.shape for fusion in fusions] == [(R, k) for k in K]
                and len(kernels) in (0, len(K))
                and all(map(is_kernel, kernels))
            ):
                return cls(convs, biases, fusions, bias, kernels)
        raise ValueError(
            "conv (K, K), conv_bias (K,), fusion (R, K) per layer, and a bias (R,), "
            "with a kernel (n, n), n odd, for each layer or for none"
        )

    def tensors(self) -> dict[str, Tensor]:
        """What goes into a file."""
        return {
            **{f"conv{i}": conv for i, conv in enumerate(self.convs)},
            **{f"conv_bias{i}": bias for i, bias in enumerate(self.conv_biases)},
            **{f"fusion{i}": fusion for i, fusion in enumerate(self.fusions)},
            **{f"kernel{i}": kernel for i, kernel in enumerate(self.kernels)},
            "bias": self.bias,
        }

    @property
    def channels(self) -> int:
        """K of the last layer."""
        return len(self.convs[-1])

    @property
    def classes(self) -> int:
        """R."""
        return len(self.bias)

    def __call__(
        self, features: Sequence[Tensor], classes: Tensor, grids: Sequence[Grid] | None = None
    ) -> Tensor:
        """L (B, P_0, Q_0) for the outputs (B, K_i, P_i, Q_i) of the layers and classes (B,).

        A branch is ReLU(A + conv(A)). Fusion rows of other classes are never touched, so the cost
        does not depend on R.
        """
        maps = []
        kernels: list[Tensor] | list[None] = self.kernels or [None] * len(self.convs)
        branches = zip(features, self.convs, self.conv_biases, self.fusions, kernels, strict=True)
        for A, conv, bias, fusion, kernel in branches:
            attended = (A + F.conv2d(A, conv[:, :, None, None], bias)).relu()
            maps.append(spread(class_activation_map(attended, fusion[classes]), kernel))
        return fuse(maps, grids, self.form.largest) + self.bias[classes][:, None, None]

    def to(self, device: torch.device) -> Tame:
        """The same on another device."""
        return Tame(
            [conv.to(device) for conv in self.convs],
            [bias.to(device) for bias in self.conv_biases],
            [fusion.to(device) for fusion in self.fusions],
            self.bias.to(device),
            [kernel.to(device) for kernel in self.kernels],
            self.form,
        )


def layers_of(training: Mapping[str, Any]) -> list[str]:
    """The layers that a record of training names; empty where it names none."""
    layers = training.get("layers")
    return [str(layer) for layer in layers] if isinstance(layers, list) else []


def check_layers(source: str, tame: Tame, layers: Sequence[str], backbone: Backbone) -> None:
    """Check that branches and layers belong together.

    Raises:
        LcamError: Another number of layers, or of channels, or no such layers.
    """
    if len(layers) != len(tame.convs):
        raise LcamError(
            f"{source} names {len(layers)} layers for {len(tame.convs)} branches",
            "train it again: the file is damaged",
        )
    shapes = backbone.shapes_of(layers, anywhere=tame.form.reads_anywhere)
    for layer, conv, shape in zip(layers, tame.convs, shapes, strict=True):
        if shape[0] != len(conv):
            raise LcamError(
                f"{source} expects {len(conv)} feature maps of layer {layer}, which has {shape[0]}",
                "pass the backbone and weights it was trained for",
            )


class TameMethod:
    """V = θ(ζ(L)) at the largest layer's resolution; one forward pass gives all layers.

    Attributes:
        layers: Those it fuses, the largest outputs first.
        tiles: Whether its cells tile the image wherever their receptive fields lie.
    """

    name = "tame"
    forward_passes = 1

    def __init__(self, tame: Tame, params: dict[str, Any]) -> None:
        self.params = params
        self._tame = tame
        self.layers = layers_of(params.get("training", {}))
        self.tiles = tame.form.tiles

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """L without the sigmoid."""
        self._tame = self._tame.to(engine.device)
        grids = None if self.tiles else engine.grids_of(self.layers)
        features = engine.outputs_of(forward, self.layers)
        if self._tame.form.times_class_token:
            tokens = engine.class_tokens_of(forward, self.layers)
            features = [
                A if token is None else A * token[:, :, None, None]
                for A, token in zip(features, tokens, strict=True)
            ]
        L = self._tame(features, classes, grids)
        height, width = forward.x.shape[2:]
        # Not by forward.grid: these are no cells of the target layer.
        return Maps(saliency_map(L, (height, width), grids[0] if grids else None), L)
