"""How far each method's maps are from those of an oracle: one line a method, as Markdown.

    python -m benchmarks.oracle_differences WEIGHTS PHOTOS

WEIGHTS is a state dict of torchvision's MobileNetV2, PHOTOS a folder of photographs, of which
--pictures are taken. The oracles are those of the tests (``tests/methods/oracles.py``): grad-cam,
captum, torchcam, or the paper's equation written out slowly, in the environment of the tests. Where
an oracle cannot take MobileNetV2, or would give the same as Grad-CAM on it, the network is another:
ConvNeXt-T with random weights, or the demo's vision transformer on images of its own.

A difference is the largest anywhere in the maps of all images, each in [0, 1]. The last column is
how far the oracle's own map in float32 is from its map in float64, where it can compute in both:
gradients at pixels jump where a ReLU opens, and 100 steps of an optimiser carry rounding far.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchcam.methods import LayerCAM

from lcam_cli.demo.make_weights import centre, views
from lcam_cli.demo.pictures import CLASSES
from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.stream import stream_batches
from lcam_cli.methods.attention import min_max
from lcam_cli.methods.base import Maps
from lcam_cli.methods.opticam import OptiCam
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.pixel import GradientShap, SmoothGrad
from lcam_cli.methods.registry import make_method
from tests.methods import oracles, seeded, transformer_oracles
from tests.methods.oracles import zeta

FUSED = ("features.14", "features.18")
DRAWS = 10


@dataclass(frozen=True)
class Job:
    """A network and its images.

    Attributes:
        engine: Whose maps tile the image.
        x: Pixels, (B, C, H, W) in [0, 1].
        y: The classes that are explained, (B,).
        network: What it is, in words.
    """

    engine: Engine
    x: Tensor
    y: Tensor
    network: str

    @property
    def layer(self) -> str:
        return self.engine.backbone.identity.layer

    def maps(self, name: str, options: MethodOptions | None = None) -> Maps:
        """What lcam gives."""
        method = make_method(name, self.engine.backbone, options=options or MethodOptions())
        return method(self.engine, self.engine.forward(self.x), self.y)

    def cells(self, name: str) -> Tensor:
        """ζ of the map of a layer's cells."""
        cam = self.maps(name).cam
        assert cam is not None
        return min_max(cam)


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        method: Its name.
        oracle: What it is held to, in words.
        network: On what.
        difference: The largest.
        rounding: That of the oracle to itself in float64; None where it is not known.
    """

    method: str
    oracle: str
    network: str
    difference: float
    rounding: float | None = None

    def __str__(self) -> str:
        own = "" if self.rounding is None else f"{self.rounding:.1e}"
        return f"| {self.method} | {self.oracle} | {self.network} | {self.difference:.1e} | {own} |"


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of two maps, neither of which is alike everywhere."""
    if float(theirs.flatten(1).std(1).min()) < 0.01:
        raise SystemExit("an oracle gives a map that is alike everywhere: take other pictures")
    return float((ours - theirs).abs().max())


def of_channels(job: Job, curved: Job) -> list[Line]:
    """Methods of channels and cells of a layer."""
    lines = []
    for name, package, at in (
        ("hirescam", "HiResCAM", job),
        ("shapleycam", "ShapleyCAM", curved),
    ):
        theirs = oracles.grad_cam_package(package, at.engine, at.x, at.y, at.layer)
        # That package scales to [0, 1] a second time, after upsampling.
        difference = apart(min_max(at.maps(name).saliency), theirs)
        lines.append(Line(name, f"grad-cam's `{package}`", at.network, difference))
    each = [
        oracles.finercam(job.engine, job.x[i : i + 1], int(y), job.layer)
        for i, y in enumerate(job.y)
    ]
    difference = apart(min_max(job.maps("finercam").saliency), torch.cat(each))
    lines.append(Line("finercam", "grad-cam's `FinerCAM`", job.network, difference))
    forward = job.engine.forward(job.x)
    g = job.engine.feature_gradients(forward, job.y)
    for name, given in (("eigencam", forward.A), ("eigengradcam", g * forward.A)):
        difference = apart(job.cells(name), zeta(oracles.first_component(given)))
        lines.append(Line(name, "grad-cam's projection, sign fixed", job.network, difference))
    network = job.engine.backbone.network
    with torch.no_grad():
        A = network.features(job.engine.normalise(job.x))
        theirs = oracles.reciprocam(lambda A: network.classifier(A.mean((2, 3))), A, job.y)
    difference = apart(job.cells("reciprocam"), zeta(theirs))
    lines.append(Line("reciprocam", "one pass of the head per cell", job.network, difference))
    return lines


def opticam(job: Job) -> Iterator[Line]:
    """The optimisation of one image, its beginning and the whole."""
    one = Job(job.engine, job.x[:1], job.y[:1], f"{job.network}, one picture")
    A = one.engine.forward(one.x).A[0]
    for steps in (12, 100):
        V = OptiCam(steps)(one.engine, one.engine.forward(one.x), one.y).saliency[0].double()
        exact, rounded = (
            oracles.opticam(one.engine, one.x[0], A, int(one.y[0]), steps, dtype).double()
            for dtype in (torch.float64, torch.float32)
        )
        yield Line(
            f"opticam, {steps} steps",
            "Adam written out",
            one.network,
            apart(V[None], rounded[None]),
            apart(rounded[None], exact[None]),
        )


def fusion(job: Job) -> Line:
    """LayerCAM of two layers."""
    network, size = job.engine.backbone.network, (job.x.shape[2], job.x.shape[3])
    with LayerCAM(network, list(FUSED)) as theirs:
        scores = network(job.engine.normalise(job.x).requires_grad_())
        cams = theirs(job.y.tolist(), scores, normalized=False)
        cams = [cam / cam.amax((1, 2), keepdim=True) for cam in cams]
        expected = zeta(theirs.fuse_cams(cams, size))
    V = job.maps("layercam", MethodOptions(layers=FUSED)).saliency
    what, oracle = "fusion (layercam, two layers, max)", "torchcam's `LayerCAM`"
    return Line(what, oracle, job.network, apart(V, expected))


def of_attention(job: Job) -> list[Line]:
    """Methods that read a transformer's attention."""
    lines = []
    for name in ("rollout", "gae", "legrad"):
        oracle: Callable[..., Tensor] = getattr(transformer_oracles, name)
        found = []
        for i, y in enumerate(job.y.tolist()):
            given = job.engine.normalise(job.x[i : i + 1])
            seen = transformer_oracles.run_torchvision(job.engine.backbone.network, given)
            rows = oracle(seen, y).detach()
            found.append((rows if name == "legrad" else rows[0])[1:])
        side = round(len(found[0]) ** 0.5)
        theirs = zeta(torch.stack(found).view(-1, side, side))
        what = "the authors' algorithm, from the weights only"
        lines.append(Line(name, what, job.network, apart(job.cells(name), theirs)))
    return lines


def of_pixels(job: Job) -> Iterator[Line]:
    """Methods of the image itself; captum's draws are ours."""
    few = Job(job.engine, job.x[:2], job.y[:2], job.network)
    drawn = {"draws": DRAWS, "seed": 0}
    for name, at, package, given in (
        ("saliency", job, "Saliency", {}),
        ("inputxgradient", job, "InputXGradient", {}),
        ("ig", few, "IntegratedGradients", {}),
        ("smoothgrad", few, "NoiseTunnel", drawn),
        ("gradientshap", few, "InputBaselineXGradient", drawn),
        ("occlusion", few, "Occlusion", {}),
    ):
        oracle: Callable[..., Tensor] = getattr(oracles, name)
        method = {"smoothgrad": SmoothGrad, "gradientshap": GradientShap}.get(name)
        V = (
            method(DRAWS)(at.engine, at.engine.forward(at.x), at.y) if method else at.maps(name)
        ).saliency
        network = at.engine.backbone.network
        rounded = zeta(oracle(at.engine, at.x, at.y, **given).detach())
        network.double()
        exact = zeta(oracle(at.engine, at.x.double(), at.y, **given).detach())
        network.float()
        what = f"captum's `{package}`" + (f", {DRAWS} draws" if given else "")
        yield Line(name, what, at.network, apart(V, rounded), apart(rounded.double(), exact))


def real(weights: Path, photos: Path, count: int) -> Job:
    """MobileNetV2 with its weights, on photographs."""
    backbone = load_backbone("mobilenet_v2", str(weights))
    engine = Engine(backbone, device="cpu", align=False)
    paths = sorted(str(p) for p in photos.iterdir() if p.suffix.lower() in (".jpeg", ".jpg"))
    (batch,) = stream_batches(paths[:count], backbone.preprocess, count, workers=1)
    x = torch.from_numpy(batch.images).permute(0, 3, 1, 2).contiguous() / 255
    return Job(engine, x, engine.forward(x).predicted, "MobileNetV2")


def random_convnext() -> Job:
    """A head with a layer norm before its linear layer, so that gradients change with features."""
    engine = seeded.seeded_engine("convnext_tiny", 64)
    return Job(engine, seeded.pictures(64), seeded.CLASSES, "ConvNeXt-T, random weights")


def demo_vit() -> Job:
    """One image of each class of the demo."""
    engine = Engine(load_backbone("lcam-demo-vit"), device="cpu", align=False)
    pictures = centre(views([(c, 0, 2026, None) for c in range(len(CLASSES))]))
    x = pictures[:, :3] / 255
    return Job(engine, x, engine.forward(x).predicted, "`lcam-demo-vit`")


def main() -> None:
    """Measure, and print each line as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=4)
    given = parser.parse_args()
    job = real(given.weights, given.photos, given.pictures)
    print("| method | reference | network | largest difference | the reference's own rounding |")
    print("|---|---|---|---|---|", flush=True)
    for lines in (
        lambda: of_channels(job, random_convnext()),
        lambda: [fusion(job)],
        lambda: of_attention(demo_vit()),
        lambda: of_pixels(job),
        lambda: opticam(job),
    ):
        for line in lines():
            print(line, flush=True)


if __name__ == "__main__":
    main()
