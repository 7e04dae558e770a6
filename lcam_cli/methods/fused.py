"""One method on several layers of a network, and its maps fused into one.

Jiang et al.: LayerCAM, IEEE TIP 2021, fuse so. RefineCAM is a product of Grad-CAM++ maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.engine.shared import Shared
from lcam_cli.engine.taps import first_pass_over_layers, tap
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import min_max, upsample
from lcam_cli.methods.base import Maps, Method

Fuse = Literal["max", "mean", "product"]
"""How maps of several layers, each in [0, 1], become one, pixel by pixel."""


class Fused:
    """V = ζ(fusion of θ(ζ(L_l))) over layers l, each upsampled from where its own cells lie.

    A method may bring its layers to one scale in its own way, by ``scaled(L)``; then that takes the
    place of the first ζ, as LayerCAM's tanh does.

    Args:
        methods: The method by layer, made for it.
        how: How the maps are fused.
        reads: Whether the method looks at A and its gradient alone: then one forward pass, and one
            backward pass to the earliest of the layers, serve them all. Others have the network cut
            at each layer.
        gradients: Whether it looks at the gradient.
        name: What it is called; default the method's name.

    Attributes:
        layers: Their names, as given.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        how: Fuse,
        *,
        reads: bool,
        gradients: bool,
        name: str = "",
    ) -> None:
        first = next(iter(methods.values()))
        self.name = name or first.name
        self.layers = list(methods)
        self.params: dict[str, Any] = {**first.params, "layers": self.layers, "fuse": how}
        passes = [method.forward_passes for method in methods.values()]
        self.forward_passes = 1 if reads and max(passes) == 1 else sum(passes)
        self.batches_pictures = getattr(first, "batches_pictures", False)
        self._methods = methods
        self._how: Fuse = how
        self._reads = reads
        self._gradients = gradients

    def first_pass(self, engine: Engine, x: Tensor) -> Forward:
        """A forward pass that reads the layers, where one serves them all."""
        if self.forward_passes > 1 or not engine.backbone.differentiable:
            return engine.forward(x)
        return first_pass_over_layers(engine, x, self.layers)

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """Explain at every layer, and fuse."""
        views = self._views(engine, forward, classes)
        maps = [
            _brought_to_scale(method, method(at, view, classes), view)
            for method, (at, view) in zip(self._methods.values(), views, strict=True)
        ]
        return Maps(min_max(fused(maps, self._how)))

    def _views(
        self, engine: Engine, forward: Forward, classes: Tensor
    ) -> list[tuple[Engine, Forward]]:
        """What the method is handed at each layer."""
        grids: Sequence[Grid | None] = engine.grids_of(self.layers) or [None] * len(self.layers)
        if not self._reads:
            views = []
            for layer, grid in zip(self.layers, grids, strict=True):
                at = engine.at(layer)
                view = replace(at.forward(forward.x), contrast=forward.contrast, grid=grid)
                views.append((at, view))
            return views
        wanted = classes if self._gradients else None

        def read() -> Any:
            graph = forward.graph
            return tap(engine, forward.x, self.layers, wanted, forward.contrast, graph)

        shared = forward.shared or Shared()
        what = (tuple(self.layers), str(forward.contrast), self._gradients)
        taps = shared.get(what, classes, read)
        views = []
        for layer, grid in zip(self.layers, grids, strict=True):
            known = Shared()
            if wanted is not None:
                known.put(str(forward.contrast), classes, taps.gradients[layer])
            view = replace(forward, A=taps.outputs[layer], grid=grid, around=(), shared=known)
            views.append((engine, view))
        return views


def fused(maps: Sequence[Tensor], how: Fuse) -> Tensor:
    """Make one of maps (B, H, W) in [0, 1], pixel by pixel: (B, H, W)."""
    if how == "mean":
        return torch.stack(list(maps)).mean(0)
    combine: Callable[[Tensor, Tensor], Tensor] = torch.maximum if how == "max" else torch.mul
    return reduce(combine, maps)


def check_layers(name: str, layers: Sequence[str], how: str | None) -> None:
    """Check that there are layers to fuse where a fusion is asked for, and such a fusion.

    Args:
        name: The method.
        layers: Their names; fewer than two for no fusion.
        how: The fusion; None for the method's own.

    Raises:
        LcamError: There are not, or a layer is named twice.
    """
    if how is not None and how not in get_args(Fuse):
        raise LcamError(f"unknown fusion {how!r}", f"use one of {', '.join(get_args(Fuse))}")
    if how is not None and len(layers) < 2:
        raise LcamError(
            f"--fuse {how}: {name} has only one layer, so there is nothing to fuse",
            "pass several layers, e.g. --layer layer3 --layer layer4",
        )
    if len(set(layers)) < len(layers):
        raise LcamError(f"a layer is named twice: {', '.join(layers)}", "pass each once")


def _brought_to_scale(method: Method, maps: Maps, view: Forward) -> Tensor:
    """A layer's maps (B, H, W) in [0, 1]."""
    scaled: Callable[[Tensor], Tensor] | None = getattr(method, "scaled", None)
    if scaled is None or maps.cam is None:
        return maps.saliency
    return upsample(scaled(maps.cam), (view.x.shape[2], view.x.shape[3]), view.grid)
