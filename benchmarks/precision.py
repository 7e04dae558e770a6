"""What each way of computing in fewer bits costs: classes, maps, AD and IC, and images a second.

    python benchmarks/precision.py mobilenet_v2 WEIGHTS PHOTOS --more PICTURES
    python benchmarks/precision.py mobilenet_v2 WEIGHTS PHOTOS --rates

The first prints accuracy, the second rates; both as Markdown. A way ("variant") says of every layer
which type it computes in. It is computed here by an interpreter of the network's graph, so that any
layer can have any type; ``lcam explain --precision`` has the one way that was chosen. Formats that
this processor does not compute in are emulated: in fp32, with weights and every layer's output
rounded to fp16 or bf16, or with what enters a product rounded to TF32. Sums are then in fp32, as on
tensor cores.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import side_by_side as s
import torch
from torch import Tensor, fx, nn

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.engine import Engine, apply_masks
from lcam_cli.engine.rounding import rounded
from lcam_cli.images.stream import stream_batches
from lcam_cli.measures.threshold import Thresholds
from lcam_cli.methods.attention import class_activation_map, saliency_map

NUS = (100, 50, 15)
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
# The last of the stages that a network's images get smaller between.
LAST_STAGE = {"mobilenet_v2": "features.14", "timm/tf_efficientnet_lite0": "blocks.5"}


@dataclass(frozen=True)
class Layer:
    """What a rule may ask of a layer.

    Attributes:
        kind: ``conv``, ``depthwise``, ``norm``, ``linear``, ``add``, ``other``.
        convolution: Its number among the convolutions, from 0; of another layer that of the one
            before it.
        head: Whether it comes after the target layer.
        last_stage: Whether it is of the last stage or the head.
        last_conv: Whether it is the last convolution, or between this and the head.
    """

    kind: str
    convolution: int
    head: bool
    last_stage: bool
    last_conv: bool


Rule = Callable[[Layer], torch.dtype]


@dataclass(frozen=True)
class Variant:
    """A way of computing.

    Attributes:
        rule: The type of each layer.
        norms: The type of the parameters of batch norms that compute in fewer bits.
        weights: How weights are rounded, in fp32; None where they are not.
        outputs: How each layer's output is rounded, in fp32.
        products: How what enters a product is rounded, in fp32.
        filters: How convolutions' weights are rounded before they are cast.
        context: What it all runs in.
        emulated: Whether its rate says nothing.
    """

    rule: Rule = lambda layer: FP32
    norms: torch.dtype = FP32
    weights: Callable[[Tensor], Tensor] | None = None
    outputs: Callable[[Tensor], Tensor] | None = None
    products: Callable[[Tensor], Tensor] | None = None
    filters: Callable[[Tensor], Tensor] | None = None
    context: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext

    @property
    def emulated(self) -> bool:
        return any((self.weights, self.outputs, self.products))


def rounded_to(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Rounding to a type and back."""
    return lambda t: t.to(dtype).to(t.dtype) if t.is_floating_point() else t


def tf32(t: Tensor) -> Tensor:
    """Rounding of the mantissa to 10 bits, to even."""
    bits = t.view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def keep_sums(weight: Tensor) -> Tensor:
    """Rounding to bf16 as the engine rounds: small filters keep their sums."""
    return rounded(weight, BF16).float()


def unless(*conditions: Callable[[Layer], bool]) -> Rule:
    """bf16, but fp32 where a condition holds."""
    return lambda layer: FP32 if any(c(layer) for c in conditions) else BF16


@contextlib.contextmanager
def bf16_products(convolutions: bool, matrices: bool) -> Iterator[None]:
    """fp32 tensors whose products oneDNN may compute in bf16."""
    mkldnn = torch.backends.mkldnn
    old = mkldnn.conv.fp32_precision, mkldnn.matmul.fp32_precision
    try:
        if convolutions:
            mkldnn.conv.fp32_precision = "bf16"
        if matrices:
            mkldnn.matmul.fp32_precision = "bf16"
        yield
    finally:
        mkldnn.conv.fp32_precision, mkldnn.matmul.fp32_precision = old


@contextlib.contextmanager
def medium() -> Iterator[None]:
    """``torch.set_float32_matmul_precision``."""
    old = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(old)


VARIANTS: dict[str, Variant] = {
    "fp32": Variant(),
    "bf16 everywhere": Variant(unless(), norms=BF16),
    "bf16, norms' parameters fp32": Variant(unless()),
    "… and last linear fp32": Variant(unless(lambda a: a.kind == "linear")),
    "… and head fp32": Variant(unless(lambda a: a.head)),
    "… and last conv + head fp32": Variant(unless(lambda a: a.head or a.last_conv)),
    "… and last stage + head fp32": Variant(unless(lambda a: a.last_stage)),
    "… and residual adds fp32": Variant(unless(lambda a: a.kind == "add")),
    "… and adds + head fp32": Variant(unless(lambda a: a.kind == "add" or a.head)),
    "… and depthwise fp32": Variant(unless(lambda a: a.kind == "depthwise")),
    "… and norms fp32": Variant(unless(lambda a: a.kind == "norm")),
    "… and first conv fp32": Variant(unless(lambda a: a.convolution < 1)),
    "… and first 3 convs fp32": Variant(unless(lambda a: a.convolution < 3)),
    "… and first 8 convs + head fp32": Variant(unless(lambda a: a.convolution < 8 or a.head)),
    "… first 8, last stage + head fp32": Variant(
        unless(lambda a: a.convolution < 8 or a.last_stage)
    ),
    "… and first depthwise fp32": Variant(unless(lambda a: a.convolution == 1)),
    "… and first 2 convs fp32": Variant(unless(lambda a: a.convolution < 2)),
    "… filters keep their sums": Variant(unless(), filters=keep_sums),
    "… filters keep sums, head fp32": Variant(unless(lambda a: a.head), filters=keep_sums),
    "… filters keep sums, first 3 + head fp32": Variant(
        unless(lambda a: a.convolution < 3 or a.head), filters=keep_sums
    ),
    "… first 3 + head fp32": Variant(unless(lambda a: a.convolution < 3 or a.head)),
    "… first 5 + head fp32": Variant(unless(lambda a: a.convolution < 5 or a.head)),
    "only 1×1 convs bf16": Variant(unless(lambda a: a.kind != "conv" or a.head)),
    "autocast (0.1.0)": Variant(context=lambda: torch.autocast("cpu", BF16)),
    "fp32, conv.fp32_precision=bf16": Variant(context=lambda: bf16_products(True, False)),
    "fp32, conv+matmul.fp32_precision=bf16": Variant(context=lambda: bf16_products(True, True)),
    "fp32, matmul_precision medium": Variant(context=medium),
    "bf16 weights alone (emulated)": Variant(weights=rounded_to(BF16)),
    "bf16 outputs alone (emulated)": Variant(outputs=rounded_to(BF16)),
    "bf16 both (emulated)": Variant(weights=rounded_to(BF16), outputs=rounded_to(BF16)),
    "bf16 products, fp32 outputs (emulated)": Variant(
        weights=rounded_to(BF16), products=rounded_to(BF16)
    ),
    "fp16 (emulated)": Variant(weights=rounded_to(FP16), outputs=rounded_to(FP16)),
    "TF32 (emulated)": Variant(weights=tf32, products=tf32),
}
PRODUCT = "lcam --precision "


class Tracer(fx.Tracer):
    """Into all modules that are not one layer."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = type(m).__name__ in ("Conv2dSame", "BatchNormAct2d", "SelectAdaptivePool2d")
        return known or super().is_leaf_module(m, module_qualified_name)


def kind_of(node: fx.Node, module: nn.Module | None) -> str:
    """The kind of a layer; see :class:`Layer`."""
    if isinstance(module, nn.Conv2d):
        return "conv" if module.groups == 1 else "depthwise"
    if isinstance(module, nn.BatchNorm2d):
        return "norm"
    if isinstance(module, nn.Linear):
        return "linear"
    return "add" if "add" in str(node.target) else "other"


class Half(fx.Interpreter):
    """Half a network, computed in a variant's way."""

    def __init__(self, half: nn.Module, variant: Variant, stage: str, first: int, head: bool):
        graph = Tracer().trace(half)
        super().__init__(fx.GraphModule(copy.deepcopy(half), graph))
        self.variant, self.dtypes, self.layers = variant, {}, {}
        last_stage, number = head, first - 1
        count = sum(isinstance(m, nn.Conv2d) for m in half.modules())
        for node in self.module.graph.nodes:
            if node.op not in ("call_module", "call_function", "call_method"):
                continue
            module = self.module.get_submodule(node.target) if node.op == "call_module" else None
            kind = kind_of(node, module)
            number += kind in ("conv", "depthwise")
            last_stage |= str(node.target).startswith(stage)
            layer = Layer(kind, number, head, last_stage, number == count - 1)
            dtype = self.dtypes[node] = variant.rule(layer)
            self.layers[node] = layer
            if module is None:
                continue
            if dtype != FP32 and variant.filters and kind in ("conv", "depthwise"):
                module.weight.data = variant.filters(module.weight.data)
            if dtype != FP32:
                module.to(variant.norms if kind == "norm" else dtype)
            if variant.weights and kind in ("conv", "depthwise", "linear"):
                module.weight.data = variant.weights(module.weight.data)
        self.last = number

    def run_node(self, n: fx.Node) -> object:
        if n not in self.dtypes:
            return super().run_node(n)
        variant, dtype = self.variant, self.dtypes[n]
        args, kwargs = self.fetch_args_kwargs_from_env(n)

        def cast(t: object) -> object:
            if not torch.is_tensor(t) or not t.is_floating_point():
                return t
            if variant.products and self.layers[n].kind in ("conv", "depthwise", "linear"):
                return variant.products(t)
            return t.to(dtype) if t.dtype != dtype and variant is not AUTOCAST else t

        out = getattr(self, n.op)(n.target, tuple(cast(a) for a in args), kwargs)
        return variant.outputs(out) if variant.outputs else out


AUTOCAST = VARIANTS["autocast (0.1.0)"]


class Network:
    """A backbone computed in a variant's way; gives A and logits in fp32."""

    def __init__(self, backbone: Backbone, variant: Variant) -> None:
        stage = LAST_STAGE[backbone.identity.name]
        features, head = backbone._cut.halves  # type: ignore[union-attr]
        self.variant = variant
        self.features = Half(features, variant, stage, 0, head=False)
        self.head = Half(head, variant, stage, self.features.last + 1, head=True)
        linear = backbone.linear_head()
        assert linear is not None
        # What Grad-CAM weighs channels with: the gradient at A, computed in the head's type.
        self.w = linear.weight
        for node, dtype in self.head.dtypes.items():
            if self.head.layers[node].kind == "linear":
                self.w = linear.weight.to(dtype).float()
        if variant.weights:
            self.w = variant.weights(linear.weight)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with self.variant.context():
            (A,) = self.features.run(x)
            return A.float(), self.head.run(A).float()


class Product:
    """The same of the engine, as ``lcam explain --precision`` runs it."""

    def __init__(self, name: str, weights: str, precision: str) -> None:
        self.engine = Engine(load_backbone(name, weights), precision=precision)
        linear = self.engine.backbone.linear_head()
        assert linear is not None
        self.w = linear.weight.float()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        A, logits, _ = self.engine.backbone.forward(x)
        return A, logits


def network_of(backbone: Backbone, weights: str, name: str) -> Network | Product:
    """The network of a row of the table."""
    if name.startswith(PRODUCT):
        return Product(backbone.identity.name, weights, name.removeprefix(PRODUCT))
    return Network(backbone, VARIANTS[name])


def pictures_of(backbone: Backbone, paths: list[Path], size: int = 25) -> list[Tensor]:
    """Pictures in batches, in [0, 1]."""
    engine = Engine(backbone, precision="fp32")
    found = stream_batches([str(p) for p in paths], backbone.preprocess, size, workers=1)
    return [engine.pixels(batch.images) for batch in found]


@dataclass
class Numbers:
    """What a variant gave: logits (N, R), maps (N, H, W), and AD and IC by ν."""

    logits: Tensor
    maps: Tensor


def compute(engine: Engine, network: Network, batches: list[Tensor], classes: Tensor | None):
    """Logits, and maps of the given classes, or of the predicted."""
    logits, maps, done = [], [], 0
    for x in batches:
        A, z = network(engine.normalise(x))
        y = z.argmax(1) if classes is None else classes[done : done + len(x)]
        done += len(x)
        V = saliency_map(class_activation_map(A, network.w[y]).relu(), x.shape[2:], engine.grid)
        logits.append(z)
        maps.append(V)
    return torch.cat(logits), torch.cat(maps)


def drops(engine: Engine, network: Network, batches, maps: Tensor, classes: Tensor):
    """AD and IC in percent at each ν."""
    found = {nu: [] for nu in NUS}
    done = 0
    for x in batches:
        here = slice(done, done + len(x))
        done += len(x)
        y, thresholds = classes[here, None], Thresholds(maps[here])
        full = network(engine.normalise(x))[1].softmax(1).gather(1, y)
        for nu in NUS:
            shown = apply_masks(x, thresholds.top_percent(nu))
            seen = network(engine.normalise(shown))[1].softmax(1).gather(1, y)
            found[nu].append(torch.cat([full, seen], 1))
    cells = []
    for nu in NUS:
        full, seen = torch.cat(found[nu]).T
        ad, ic = (
            ((full - seen).clamp_min(0) / full).mean() * 100,
            (seen > full).float().mean() * 100,
        )
        cells.append(f"{ad:.2f}/{ic:.1f}")
    return ", ".join(cells)


def ranks(V: Tensor) -> Tensor:
    """Centred ranks of each map's pixels."""
    flat = V[:, ::8, ::8].flatten(1)
    r = flat.argsort(1).argsort(1).double()
    return r - r.mean(1, keepdim=True)


def spearman(V: Tensor, W: Tensor) -> Tensor:
    """Spearman's ρ of two maps, (N,)."""
    a, b = ranks(V), ranks(W)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def accuracy(
    backbone: Backbone,
    weights: str,
    names: list[str],
    photos: list[Path],
    more: list[Path],
    drop: bool,
) -> None:
    """Print the table of accuracies."""
    engine = Engine(backbone, precision="fp32")
    batches, others = pictures_of(backbone, photos), pictures_of(backbone, more)
    reference = Network(backbone, VARIANTS["fp32"])
    base, V32 = compute(engine, reference, batches, None)
    base_more = compute(engine, reference, others, None)[0] if others else base[:0]
    y32 = base.argmax(1)
    print(
        f"| | same top-1 of {len(base)} | of {len(base_more)} more | margins of those | largest "
        "difference of a map: median, 99 % | ρ: median, 1 % | AD/IC(100), (50), (15), measured in "
        "fp32 | measured so |\n|---|---|---|---|---|---|---|---|"
    )
    for name in names:
        network = network_of(backbone, weights, name)
        z, V = compute(engine, network, batches, y32)
        z_more = compute(engine, network, others, None)[0] if others else z[:0]
        both, both32 = torch.cat([z, z_more]), torch.cat([base, base_more])
        flipped = both.argmax(1) != both32.argmax(1)
        best = both32.softmax(1).topk(2, 1).values
        margin = (best[:, 0] - best[:, 1])[flipped].sort().values
        diff, rho = (V - V32).abs().amax((1, 2)), spearman(V, V32)
        same, same_more = (~flipped[: len(z)]).sum(), (~flipped[len(z) :]).sum()
        told = ", ".join(f"{m:.3f}" for m in margin[[len(margin) // 2, -1]]) if len(margin) else "–"
        row = [
            name,
            f"{same}",
            f"{same_more}",
            f"median, most: {told}",
            f"{diff.median():.4f}, {diff.quantile(0.99):.4f}",
            f"{rho.median():.5f}, {rho.quantile(0.01):.4f}",
        ]
        if drop:
            y = z.argmax(1)
            V = compute(engine, network, batches, y)[1]
            row.append(drops(engine, reference, batches, V, y))
            row.append("" if name == "fp32" else drops(engine, network, batches, V, y))
        else:
            row += ["", ""]
        print("| " + " | ".join(row) + " |", flush=True)
        print(name, both.isfinite().all().item(), file=sys.stderr)


def rates(backbone: Backbone, weights: str, names: list[str], batch_size: int, rounds: int) -> None:
    """Print images/s, all variants taking turns."""
    timed = [n for n in names if n.startswith(PRODUCT) or not VARIANTS[n].emulated]
    names = ["fp32", *(n for n in timed if n != "fp32")]
    networks = {name: network_of(backbone, weights, name) for name in names}
    side = backbone.preprocess.image_size
    x = torch.rand(batch_size, 3, side, side).contiguous(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(-1, rounds):
        for name, network in networks.items():
            start = time.perf_counter()
            network(x)
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    print("| | images/s | over fp32 |\n|---|---|---|")
    for name in names:
        ratios = [a / b for a, b in zip(seconds["fp32"], seconds[name], strict=True)]
        print(
            f"| {name} | {batch_size / statistics.median(seconds[name]):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=list(LAST_STAGE))
    parser.add_argument("weights")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--more", type=Path, help="a folder of images for agreement alone")
    parser.add_argument("--count", type=int, default=600, help="of those")
    parser.add_argument("--variants", help="some of them, by semicolons")
    parser.add_argument("--no-drops", action="store_true")
    parser.add_argument("--rates", action="store_true")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    backbone = load_backbone(given.backbone, given.weights)
    Engine(backbone, precision="fp32")
    names = given.variants.split(";") if given.variants else [*VARIANTS, f"{PRODUCT}bf16"]
    print(f"{given.backbone}: {s.machine()}\n")
    if given.rates:
        rates(backbone, given.weights, names, given.batch_size, given.rounds)
        return
    photos = sorted(given.photos.glob("*.JPEG"))
    more = sorted(p for p in given.more.iterdir() if p.suffix)[: given.count] if given.more else []
    accuracy(backbone, given.weights, names, photos, more, not given.no_drops)


if __name__ == "__main__":
    main()
