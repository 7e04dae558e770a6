"""What each method costs over the bare passes of the network that it needs.

    python benchmarks/method_rates.py resnet50 --short
    python benchmarks/method_rates.py vit_b_16 --short --batch-size 8

The rate is what the same passes take in a bare loop, over what the method takes with reading left
out: 1 for a method that does nothing beside them. Which passes a method needs is its :class:`Cost`;
five kinds are timed, each by the best loop that one writes with PyTorch alone:

- forward: the network on a batch that is ready, without gradients; the better of the engine's own
  network and of torchvision's with batch norms folded and activations in place;
- head: what follows the target layer, on features that are ready;
- back: the same with its backward pass, less the pass itself;
- whole: the network forward and backward, to the pixels; the better of the same two networks;
- layers: the network forward, and backward to the earliest of several layers.

Method and bare loops take turns, and a ratio is taken with bare times a few seconds old at most.
``--short`` makes fewer masks, channels and draws, so that a method takes some batches instead of
minutes; what it does a pass is the same. Weights are random: no rate depends on them.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import side_by_side as s
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.calls import hook
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.methods import groupcam, occlusion
from lcam_cli.methods.base import Method, first_pass
from lcam_cli.methods.copies import IntegratedGradCam, SmoothGradCamPlusPlus
from lcam_cli.methods.explain import explained_at_once
from lcam_cli.methods.opticam import OptiCam
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.pixel import GradientShap, IntegratedGradients, SmoothGrad
from lcam_cli.methods.registry import METHODS, make_method
from lcam_cli.methods.sise import Sise

_STALE = 2.0
"""Seconds after which a bare loop is timed again."""

_HEADS = 16
"""So many passes of a head are made for one of the network."""


@dataclass(frozen=True)
class Cost:
    """Passes of each kind that an image takes; ``forward`` has the one that tells the class."""

    forward: float = 0
    head: float = 0
    back: float = 0
    whole: float = 0
    layers: float = 0


@dataclass(frozen=True)
class Plan:
    """How a method is timed where it makes ``n`` masks, channels or draws of an image.

    Attributes:
        cost: Its passes.
        make: Makes the method with n; None where there is no such setting.
        only: What of a forward pass it is handed, so that it takes n.
        exchanged: What stands in for a name of a module meanwhile, so that it takes n.
        fixed: Whether n is always the method's own, or there are fewer images.
    """

    cost: Callable[[int], Cost]
    make: Callable[[Engine, int], Method] | None = None
    only: Callable[[Forward, int], Forward] = lambda forward, _: forward
    exchanged: Callable[[int], tuple[object, str, object] | None] = lambda _: None
    fixed: bool = False


def _channels(forward: Forward, n: int) -> Forward:
    """With n channels of features alone."""
    return replace(forward, A=forward.A[:, :n])


def _active(forward: Forward, n: int) -> Forward:
    """With n channels that are not zero."""
    A = torch.zeros_like(forward.A)
    A[:, :n] = forward.A[:, :n] + 1
    return replace(forward, A=A)


class _FewerMasks(Sise):
    """SISE with ``n`` masks in all, shared out over its blocks."""

    def __init__(self, engine: Engine, n: int, *, adaptive: bool) -> None:
        super().__init__(engine.backbone, adaptive)
        self._most = max(1, n // len(self.layers))
        self.masks = self._most * len(self.layers)

    def _kept(self, beta: Tensor) -> Tensor:
        super()._kept(beta)
        return torch.arange(len(beta), device=beta.device) < self._most


def _rise(engine: Engine, n: int) -> Method:
    return make_method("rise", engine.backbone, options=MethodOptions(rise_masks=n))


def _fewer_patches(n: int) -> tuple[object, str, object]:
    """A square of about n patches."""
    own, side = occlusion.patches, round(n**0.5)
    return occlusion, "patches", lambda length: own(length)[:side]


_FORWARD = Plan(lambda _: Cost(forward=1))
_ONE_BACK = Plan(lambda _: Cost(forward=1, back=1))
_WHOLE = Plan(lambda _: Cost(whole=1))
_OF_LAYERS = Plan(lambda _: Cost(forward=1, layers=1))
_MASKED = partial(Plan, lambda n: Cost(forward=1 + n))

PLANS: dict[str, Plan] = {
    **dict.fromkeys(("cam", "eigencam", "rollout", "random"), _FORWARD),
    **dict.fromkeys(
        ("gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "eigengradcam", "finercam"),
        _ONE_BACK,
    ),
    "shapleycam": _ONE_BACK,
    "refinecam": _OF_LAYERS,
    "smoothgradcam++": Plan(
        lambda n: Cost(forward=1 + n, back=n), lambda _, n: SmoothGradCamPlusPlus(n)
    ),
    "integrated-gradcam": Plan(
        lambda n: Cost(forward=1 + n, back=n), lambda _, n: IntegratedGradCam(n)
    ),
    "ablationcam": Plan(lambda n: Cost(forward=1, head=1 + n), only=_active),
    "reciprocam": Plan(lambda n: Cost(forward=1, head=n), fixed=True),
    "scorecam": _MASKED(only=_channels),
    "sidu": _MASKED(only=_channels),
    "groupcam": Plan(
        lambda n: Cost(forward=1 + n, back=1),
        exchanged=lambda n: (groupcam, "_GROUPS", n - 1),  # and the blurred image
    ),
    "opticam": Plan(lambda n: Cost(forward=1, whole=n), lambda _, n: OptiCam(n)),
    "sise": Plan(
        lambda n: Cost(forward=2 + n, layers=1),
        lambda engine, n: _FewerMasks(engine, n, adaptive=False),
    ),
    "adasise": Plan(
        lambda n: Cost(forward=2 + n, layers=1),
        lambda engine, n: _FewerMasks(engine, n, adaptive=True),
    ),
    "rise": _MASKED(_rise),
    "occlusion": _MASKED(exchanged=_fewer_patches),
    **dict.fromkeys(("gae", "legrad", "saliency", "inputxgradient"), _WHOLE),
    "ig": Plan(lambda n: Cost(forward=1, whole=n), lambda _, n: IntegratedGradients(n)),
    "smoothgrad": Plan(lambda n: Cost(forward=1, whole=n), lambda _, n: SmoothGrad(n)),
    "gradientshap": Plan(lambda n: Cost(forward=1, whole=n), lambda _, n: GradientShap(n)),
}
"""A line for every method that comes along."""


class Bare:
    """Seconds that an image takes in bare loops, each timed again when it is old.

    Args:
        name: The network, of torchvision.
        engine: Its engine.
        x: A batch, (B, C, H, W).
    """

    def __init__(self, name: str, engine: Engine, x: Tensor) -> None:
        plain = s.PlainNetwork(name, engine)
        given = engine.normalise(x)
        seen = engine.forward(x)
        own, features = engine.backbone, (seen.A, seen.around)
        cast = given.to(engine.hardware.dtype)
        self._engine, self._count = engine, len(x)
        self._loops: dict[str, tuple[Callable[[], object], ...]] = {
            "forward": (
                without_gradients(lambda: own(given)),
                without_gradients(lambda: plain(cast)),
            ),
            "head": (without_gradients(lambda: own.head(*features)),),
            "whole": (lambda: to_pixels(own, given), lambda: to_pixels(plain, cast)),
            "back": (lambda: to_features(own.head, *features),),
        }
        self._to_layer = partial(to_layer, own, given, own.network)
        self._known: dict[str, tuple[float, float]] = {}  # when, and how long

    def seconds(self, cost: Cost, layer: str) -> float:
        """What these passes take, of one image; ``layer`` is the earliest of several."""
        self._loops["layers"] = (lambda: self._to_layer(layer),)
        spent = {kind: self._of(kind) for kind in vars(cost) if getattr(cost, kind)}
        if cost.back:
            spent["back"] = max(0.0, spent["back"] - self._of("head"))
        if cost.layers:
            spent["layers"] = max(0.0, spent["layers"] - self._of("forward"))
        return sum(getattr(cost, kind) * seconds for kind, seconds in spent.items())

    def _of(self, kind: str) -> float:
        when, seconds = self._known.get(kind, (-_STALE, 0.0))
        if kind == "layers" or s.now(self._engine) - when > _STALE:
            if kind not in self._known:
                for loop in self._loops[kind]:
                    loop()  # what comes first takes longer
            seconds = min(self._timed(loop) for loop in self._loops[kind]) / self._count
            self._known[kind] = (s.now(self._engine), seconds)
        return seconds

    def _timed(self, loop: Callable[[], object]) -> float:
        start = s.now(self._engine)
        loop()
        return s.now(self._engine) - start


def without_gradients(run: Callable[[], object]) -> Callable[[], object]:
    """The same in ``torch.no_grad``."""
    return torch.no_grad()(run)


def to_pixels(network: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
    """Forward, and backward to the pixels."""
    x = given.detach().requires_grad_()
    return torch.autograd.grad(network(x).amax(1).sum(), x)[0]


def to_features(
    head: Callable[[Tensor, Sequence[Tensor]], Tensor], A: Tensor, around: Sequence[Tensor]
) -> Tensor:
    """The head forward and backward."""
    A = A.detach().requires_grad_()
    return torch.autograd.grad(head(A, around).amax(1).sum(), A)[0]


def to_layer(
    run: Callable[[Tensor], Tensor], given: Tensor, network: nn.Module, layer: str
) -> Tensor:
    """Forward, and backward to a layer."""
    starts: list[Tensor] = []

    def begin(_name: str, output: Tensor) -> Tensor:
        starts.append(output.detach().requires_grad_())
        return starts[0].clone()  # what follows may change it in place

    with hook(network, [layer], begin):
        value = run(given).amax(1).sum()
    return torch.autograd.grad(value, starts)[0]


@dataclass(frozen=True)
class Timed:
    """A method about to be timed.

    Attributes:
        work: Explains the images, from the first forward pass to maps.
        pictures: How many.
        cost: The passes of one.
        layer: The earliest of several that the method reads; empty where it reads none.
    """

    work: Callable[[], object]
    pictures: int
    cost: Cost
    layer: str


def prepare(engine: Engine, name: str, x: Tensor, passes: int | None) -> Timed:
    """Make a method that is to be timed.

    Args:
        engine: The engine.
        name: The method.
        x: Images; it takes as many of them as ``lcam explain`` does at once, or fewer.
        passes: About how many passes it may take in all; None for all of its own.

    Raises:
        LcamError: It cannot explain the network.
    """
    plan = PLANS[name]
    method = make_method(name, engine.backbone)
    n, count = method.forward_passes, min(len(x), explained_at_once(engine, method))
    if passes is not None and n > 1:
        if plan.cost(n).head:
            passes *= _HEADS
        if plan.fixed:
            count = max(1, min(count, passes // n))
        else:
            n = max(2, min(n, passes // count))
            method = method if plan.make is None else plan.make(engine, n)
    exchanged, x = plan.exchanged(n), x[:count]

    def work() -> None:
        with contextlib.nullcontext() if exchanged is None else patch.object(*exchanged):
            forward = first_pass(engine, method, x)
            method(engine, plan.only(forward, n), forward.predicted)

    if name == "occlusion":  # a square of them
        n = round(n**0.5) ** 2
    if isinstance(method, _FewerMasks):
        n = method.masks
    return Timed(work, count, plan.cost(n), (*getattr(method, "layers", ()), "")[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", help="a classifier of torchvision")
    parser.add_argument("--methods", help="names by commas; default all")
    parser.add_argument("--short", action="store_true", help="about two batches a method")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args()

    backbone = load_backbone(given.backbone, "none")
    engine = Engine(
        backbone, device=given.device, precision=given.precision, batch_size=given.batch_size
    )
    x = torch.rand(engine.batch_size, *backbone.preprocess.input_shape, device=engine.device)
    x = x.contiguous(memory_format=torch.channels_last)
    print(s.machine())
    print(
        f"{given.backbone}, {engine.hardware.name}, {engine.hardware.precision}, batch {len(x)}, "
        f"{given.rounds} rounds: the passes' bare time over the method's, median (lowest to "
        "highest); and the passes of an image"
    )
    bare = Bare(given.backbone, engine, x)
    for name in (given.methods or ",".join(METHODS)).split(","):
        try:
            timed = prepare(engine, name, x, 2 * len(x) if given.short else None)
            timed.work()  # what comes first takes longer
        except LcamError as error:
            print(f"{name:<20} {error.what}")
            continue
        found = []
        for _ in range(given.rounds):
            needed = bare.seconds(timed.cost, timed.layer) * timed.pictures
            start = s.now(engine)
            timed.work()
            found.append(needed / (s.now(engine) - start))
        passes = ", ".join(f"{n:g} {kind}" for kind, n in vars(timed.cost).items() if n)
        print(
            f"{name:<20}{statistics.median(found):>7.3f} ({min(found):.3f} to {max(found):.3f})"
            f"   {passes}",
            flush=True,
        )


if __name__ == "__main__":
    main()
