"""Maps of networks of any channels and of rectangular images, against plain PyTorch and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.base import Method
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.gradient import GradCam, GradCamPlusPlus, LayerCam, XGradCam
from lcam_cli.methods.groupcam import GroupCam
from lcam_cli.methods.rise import Rise
from lcam_cli.methods.scorecam import ScoreCam
from lcam_cli.methods.sidu import Sidu
from lcam_cli.methods.sise import Sise
from lcam_cli.networks.network import Network
from tests.transformers import _seeded, tiny_swin


@dataclass(frozen=True)
class Conv:
    """One layer: kernel, stride and padding, rows first."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Drawn:
    """A random network and its input."""

    channels: int
    height: int
    width: int
    convs: tuple[Conv, ...]
    seed: int

    def network(self) -> nn.Sequential:
        torch.manual_seed(self.seed)
        layers: list[nn.Module] = []
        before = self.channels
        for number, conv in enumerate(self.convs):
            after = 4 + number
            layers += [nn.Conv2d(before, after, conv.kernel, conv.stride, conv.padding), nn.ReLU()]
            before = after
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 3))

    def preprocess(self) -> Preprocess:
        rng = np.random.default_rng(self.seed)
        mean, std = rng.uniform(0.3, 0.6, (2, self.channels)).tolist()
        return Preprocess(
            (self.height, self.width), min(self.height, self.width), tuple(mean), tuple(std)
        )


def _pair(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(numbers, numbers)


CONVS = st.builds(
    Conv, _pair(st.sampled_from([1, 3])), _pair(st.integers(1, 2)), _pair(st.integers(0, 1))
)
DRAWN = st.builds(
    Drawn,
    st.sampled_from([1, 2, 3, 4, 7]),
    st.integers(12, 40),
    st.integers(12, 40),
    st.tuples(CONVS, CONVS),
    st.integers(0, 10_000),
).filter(lambda drawn: drawn.height != drawn.width)

PLAIN: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "gradcam": lambda A, g, w: (g.mean((2, 3))[..., None, None] * A).sum(1).relu(),
    "xgradcam": lambda A, g, w: (
        (((g * A).sum((2, 3)) / (A.sum((2, 3)) + 1e-7))[..., None, None] * A).sum(1).relu()
    ),
    "layercam": lambda A, g, w: (g.relu() * A).sum(1).relu(),
    "gradcam++": lambda A, g, w: (
        (g**2 / (2 * g**2 + g**3 * A.sum((2, 3), keepdim=True) + 1e-6) * g.relu())
        .sum((2, 3))[..., None, None]
        .mul(A)
        .sum(1)
        .relu()
    ),
    "cam": lambda A, g, w: (w[..., None, None] * A).sum(1),
}


def _scaled(L: Tensor) -> np.ndarray:
    low, high = L.amin((1, 2), keepdim=True), L.amax((1, 2), keepdim=True)
    return torch.where(high > low, (L - low) / (high - low), 0).double().numpy()


def _placed(L: np.ndarray, drawn: Drawn) -> np.ndarray:
    """Interpolate between the centres of receptive fields, one axis after the other."""
    for axis, length in ((1, drawn.height), (2, drawn.width)):
        start, step = 0.0, 1.0
        for conv in drawn.convs:
            k, s, p = (values[axis - 1] for values in (conv.kernel, conv.stride, conv.padding))
            start, step = start + ((k - 1) / 2 - p) * step, step * s
        centres = start + step * np.arange(L.shape[axis])
        # Between unit vectors: a column of the matrix is what one cell is worth at each pixel.
        cells = np.eye(L.shape[axis])
        matrix = np.stack([np.interp(np.arange(length), centres, cell) for cell in cells])
        L = np.moveaxis(np.moveaxis(L, axis, -1) @ matrix, -1, axis)
    return L


@settings(max_examples=60, deadline=None)
@given(DRAWN)
def test_one_pass_methods_are_what_plain_pytorch_computes(drawn: Drawn) -> None:
    module, preprocess = drawn.network().eval(), drawn.preprocess()
    backbone = Backbone(
        Network(drawn.network(), "drawn", "none:seed=0", preprocess=preprocess), "3"
    )
    assert backbone.preprocess == preprocess
    assert backbone.notes == []
    size = (drawn.height, drawn.width)
    x = torch.rand(2, drawn.channels, *size, generator=torch.Generator().manual_seed(drawn.seed))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
    A = module[:4]((x - mean) / std).detach().requires_grad_(True)
    logits = module[4:](A)
    classes = torch.tensor([0, 2])
    (g,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), A)
    w, A = module[-1].weight[classes].detach(), A.detach()
    engine = Engine(backbone, device="cpu")
    for align in (True, False):
        engine.align = align
        forward = engine.forward(x)
        torch.testing.assert_close(forward.logits, logits.detach(), atol=1e-5, rtol=1e-4)
        for method in (GradCam(), XGradCam(), LayerCam(), GradCamPlusPlus(), Cam(backbone)):
            V = method(engine, forward, classes).saliency
            assert V.shape == (2, *size)
            assert 0 <= float(V.min()) <= float(V.max()) <= 1 + 1e-6
            L = PLAIN[method.name](A, g, w)
            if _nearly_flat(L):
                continue
            scaled = _scaled(L)
            if align:
                expected = torch.from_numpy(_placed(scaled, drawn))
            else:
                expected = F.interpolate(
                    torch.from_numpy(scaled)[None], size, mode="bilinear", align_corners=False
                )[0]
            torch.testing.assert_close(V.double(), expected, atol=2e-4, rtol=0)


def _nearly_flat(L: Tensor) -> bool:
    """Whether rounding is all there is to a map, so that two ways of computing it may differ."""
    spans = L.amax((1, 2)) - L.amin((1, 2))
    return bool((spans < 1e-4 * L.abs().amax((1, 2)).clamp_min(1e-3)).any())


STRIDED = Drawn(2, 24, 40, (Conv((3, 3), (2, 2), (1, 1)),) * 2, 1)


def _rectangular() -> Backbone:
    preprocess = Preprocess((24, 40), 24, (0.5,) * 2, (0.25,) * 2)
    return Backbone(Network(STRIDED.network(), "drawn", "none:seed=1", preprocess=preprocess), "3")


MASKED: dict[str, Callable[[Backbone], Method]] = {
    "rise": lambda _: Rise(40, seed=1),
    "scorecam": lambda _: ScoreCam(5),
    "groupcam": lambda _: GroupCam(),
    "sidu": lambda _: Sidu(5),
    "sise": Sise,
}


@pytest.mark.parametrize("name", MASKED)
def test_methods_of_masks_take_rectangles(name: str) -> None:
    engine = Engine(_rectangular(), device="cpu", batch_size=7)
    x = torch.rand(2, 2, 24, 40, generator=torch.Generator().manual_seed(0))
    method = MASKED[name](engine.backbone)
    V = method(engine, engine.forward(x), torch.tensor([0, 1])).saliency
    assert V.shape == (2, 24, 40)
    assert 0 <= float(V.min()) < float(V.max()) <= 1


@torch.no_grad()
def test_scorecam_of_a_rectangle_by_hand() -> None:
    engine = Engine(_rectangular(), device="cpu")
    engine.align = False
    x = torch.rand(1, 2, 24, 40, generator=torch.Generator().manual_seed(2))
    V = ScoreCam(5)(engine, engine.forward(x), torch.tensor([1])).saliency
    module = STRIDED.network().eval()
    A = module[:4]((x - 0.5) / 0.25)
    H = F.interpolate(A, (24, 40), mode="bilinear", align_corners=False)[0]
    low, high = H.amin((1, 2), keepdim=True), H.amax((1, 2), keepdim=True)
    H = torch.where(high > low, (H - low) / (high - low), 0)
    scores = module((x - 0.5) / 0.25 * H[:, None]).softmax(1)[:, 1]  # what is hidden is the mean
    L = (scores[:, None, None] * H).sum(0)
    torch.testing.assert_close(V[0], (L - L.min()) / (L.max() - L.min()), atol=1e-4, rtol=0)


class RectangularViT(nn.Module):
    """Patches of 8×8 of any rectangle, positions of their own, two blocks and a class token."""

    def __init__(self, rows: int, columns: int, prefix: int = 1) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 12, 8, stride=8)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, 12))
        self.positions = nn.Parameter(torch.zeros(1, prefix + rows * columns, 12))
        layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True, norm_first=True, dropout=0)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), patches], 1) + self.positions
        tokens = self.norm(self.blocks(tokens))
        logits: Tensor = self.head(tokens[:, 0] if self.prefix.shape[1] else tokens.mean(1))
        return logits


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("size", [(24, 56), (64, 16), (16, 48)])
def test_patches_of_rectangles_are_read_row_by_row(size: tuple[int, int], prefix: int) -> None:
    rows, columns = size[0] // 8, size[1] // 8
    module = _seeded(lambda: RectangularViT(rows, columns, prefix))
    preprocess = Preprocess(size, min(size), (0.5,), (0.5,))
    backbone = Backbone(Network(module, "vit", "none:seed=7", preprocess=preprocess))
    assert backbone.feature_shape == (12, rows, columns)
    grid = backbone.grid
    assert grid is not None
    assert (grid.start, grid.step) == ((3.5, 3.5), (8, 8))
    engine = Engine(backbone, device="cpu")
    x = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    assert GradCam()(engine, engine.forward(x), torch.tensor([0])).saliency.shape == (1, *size)


def test_the_places_of_a_swin_of_a_rectangle() -> None:
    preprocess = Preprocess((32, 64), 32)
    backbone = Backbone(Network(tiny_swin(), "swin", "none:seed=7", preprocess=preprocess))
    assert backbone.feature_shape[1:] == (4, 8)
    assert backbone.grid is not None
    assert (backbone.grid.start, backbone.grid.step) == ((3.5, 3.5), (8, 8))
