"""Whether maps change when the network's weights are drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.cascade import Cascade
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.measures.redrawn_methods import RedrawnMethods, read_examples
from lcam_cli.measures.sanity import check_sanity, maps_a_picture
from lcam_cli.measures.similarity import Outcome, SanityNumbers
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.base import Maps, Method
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.lcam import LCam
from lcam_cli.methods.registry import make_method
from lcam_cli.networks.network import Network
from tests.tiny import SMALL, Standardised, tiny_network, write_pictures

SEED = 5


class EdgeMap:
    """What an edge detector sees: of the image alone."""

    name = "edges"
    forward_passes = 0

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, _engine: Engine, forward: Forward, _classes: Tensor) -> Maps:
        grey = forward.x.mean(1)
        steps = F.pad(grey.diff(dim=2).abs(), (0, 1)) + F.pad(grey.diff(dim=1).abs(), (0, 0, 0, 1))
        return Maps(steps / steps.flatten(1).amax(1)[:, None, None])


def redrawn(
    names: list[str],
    *,
    module: nn.Module | None = None,
    stages: int = 3,
    batch_size: int = 4,
    **others: Method,
) -> Callable[[list[str]], RedrawnMethods]:
    """Methods on a network of three layers, given the paths of some images."""
    network = Network(module or tiny_network(), "tiny", "none:seed=7", preprocess=SMALL)
    backbone = Backbone(network, redrawable=True)
    cascade = Cascade(backbone.network, backbone.blank(), stages, SEED)
    engine = Engine(backbone, device="cpu", batch_size=batch_size, align=False)  # as by hand
    first = {name: make_method(name, backbone) for name in names} | others

    def make(name: str) -> Method | None:
        return make_method(name, backbone) if name in names else None

    return lambda paths: RedrawnMethods(
        engine,
        cascade,
        first,
        make,
        read_examples(paths, SMALL, workers=1, max_pixels=10**6),
    )


def check(
    methods: Callable[[list[str]], RedrawnMethods], paths: list[str], **more: Any
) -> SanityNumbers:
    return check_sanity(methods(paths), paths, workers=1, **more)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return write_pictures(tmp_path / "photos", 6)


def gradcam_by_hand(network: nn.Sequential, x: Tensor, classes: Tensor) -> Tensor:
    """V of Grad-CAM at the last convolution, in plain PyTorch, tiled evenly."""
    A = network[:4](x).detach().requires_grad_()
    logits = network[4:](A)
    G = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), A)[0]
    L = (G.mean((2, 3), keepdim=True) * A).sum(1).relu().detach()
    low, high = L.flatten(1).aminmax(dim=1)
    spread = (high - low).clamp_min(1e-12)
    L = (L - low[:, None, None]) / spread[:, None, None]
    return F.interpolate(L[:, None], size=(32, 32), mode="bilinear", align_corners=False)[:, 0]


class Recorded:
    """Grad-CAM that keeps its maps."""

    name = "recorded"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.maps: list[Tensor] = []

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        maps = GradCam()(engine, forward, classes)
        self.maps.append(maps.saliency)
        return maps


def test_maps_and_correlations_are_those_of_a_cascade_made_by_hand(paths: list[str]) -> None:
    recorded = Recorded()
    methods = redrawn(["gradcam"], recorded=recorded, batch_size=6)
    found = check(methods, paths, shown=6)
    engine = methods(paths).engine
    x = engine.normalise(engine.pixels(np.stack([one.view for one in found.shown])))
    network = tiny_network()
    best = network(x).topk(2, 1).indices
    first = gradcam_by_hand(network, x, best[:, 0])
    expected = [first, gradcam_by_hand(network, x, best[:, 1])]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for layer in (network[6], network[2], network[0]):
            layer.reset_parameters()
            expected.append(gradcam_by_hand(network, x, best[:, 0]))
    assert len(recorded.maps) == len(expected) == 5
    for made, by_hand in zip(recorded.maps, expected, strict=True):
        assert (made - by_hand).abs().max() < 1e-5
    numbers = 0
    for column, V in enumerate([*recorded.maps[2:], recorded.maps[1]]):
        for p in range(len(paths)):
            one, other = recorded.maps[0][p].flatten(), V[p].flatten()
            if one.amax() > one.amin() and other.amax() > other.amin():
                rho = spearmanr(one, other).statistic
                assert found.rho[:, column, p] == pytest.approx([rho, rho], abs=1e-6)
                numbers += 1
            else:
                assert found.outcomes[:, column, p].tolist() == [Outcome.FLAT] * 2
    assert numbers > 12
    for p, picture in enumerate(found.shown):
        assert picture.class_index == int(best[p, 0])
        for row, k in enumerate((0, 2, 3, 4, 1)):  # in the figure the other class comes last
            half = recorded.maps[k][p].half().numpy()
            assert np.array_equal(picture.maps["gradcam"][row], half)


def test_an_edge_map_stays_and_a_map_of_the_network_falls(paths: list[str]) -> None:
    W = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    learned = LCam(Attention(W, torch.zeros(4)), "lcam-img", {})
    methods = redrawn(["layercam", "random"], edges=EdgeMap(), **{"lcam-img": learned})
    found = check(methods, paths)
    similar = found.similarities(seed=0)
    assert [one.mean for one in similar["edges"]] == pytest.approx([1, 1, 1, 1])
    assert similar["edges"][0].ci95 == pytest.approx((1, 1))
    *stages, other = similar["random"]
    assert [one.mean for one in stages] == pytest.approx([1, 1, 1]), (
        "noise of the image and the class alone"
    )
    assert other.mean is not None
    assert abs(other.mean) < 0.5
    assert similar["layercam"][-1].mean is not None
    assert similar["layercam"][-1].mean < 0.9
    # The attention keeps its weights: its map changes with the features, and not with the head.
    assert similar["lcam-img"][0].mean == pytest.approx(1)
    assert similar["lcam-img"][-1].mean is not None
    assert similar["lcam-img"][-1].mean < 0.9
    assert all(one.images + one.flat == 6 for row in similar.values() for one in row)


def test_cam_looks_at_the_head_of_the_stage(paths: list[str]) -> None:
    """It takes the head's weights when it is made; a stale copy would give the first map again."""
    found = check(redrawn(["cam"]), paths)
    assert found.similarities(seed=0)["cam"][0].mean < 0.99  # type: ignore[operator]


def test_the_batch_size_changes_nothing_and_the_network_has_its_weights_again(
    paths: list[str],
) -> None:
    made = redrawn(["gradcam", "random"])
    methods = made(paths)
    before = [p.clone() for p in methods.engine.backbone.network.parameters()]
    asked: list[int] = []
    whole = check_sanity(methods, paths, workers=1, advance=asked.append)
    assert all(map(torch.equal, before, methods.engine.backbone.network.parameters()))
    assert sum(asked) == 6 * maps_a_picture(methods) == 6 * 2 * 5
    methods.engine.batch_size = 1
    one_by_one = check_sanity(methods, paths, workers=1)
    assert np.allclose(whole.rho, one_by_one.rho, atol=1e-3, equal_nan=True)


def test_a_stop_ends_it_and_restores_the_weights(paths: list[str]) -> None:
    methods = redrawn(["gradcam"])(paths)
    before = [p.clone() for p in methods.engine.backbone.network.parameters()]
    calls = iter([False, False, False, True])
    found = check_sanity(methods, paths, workers=1, stop=lambda: next(calls, True))
    assert found.images == 0
    assert all(map(torch.equal, before, methods.engine.backbone.network.parameters()))


class Fails(EdgeMap):
    """Fails on images of one colour; its maps of some others are flat, or no numbers."""

    name = "fails"

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        maps = super().__call__(engine, forward, classes)
        for picture, V in zip(forward.x, maps.saliency, strict=True):
            if picture.amax() - picture.amin() < 0.05:
                raise ValueError("one colour")
            if picture.mean() > 0.7:
                V.fill_(0.5)
            elif picture.mean() < 0.3:
                V.fill_(torch.nan)
        return maps


def test_flat_maps_and_failures_are_counted_and_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    paths = write_pictures(folder, 3)
    draw = np.random.default_rng(0)
    for name, low, high in (("bright", 200, 256), ("dark", 0, 40), ("grey", 128, 129)):
        pixels = draw.integers(low, high, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        paths.append(str(folder / f"{name}.png"))
    found = check(redrawn([], fails=Fails()), paths)
    (row,) = found.similarities(seed=0).values()
    assert found.images == 6
    for one in row:
        assert (one.images, one.flat, one.failed) == (3, 1, 2)
        assert one.mean == pytest.approx(1)
    assert found.failures["fails"].startswith("ValueError: one colour")
    assert found.explains.tolist() == [True]


def test_pictures_without_numbers_are_left_out_of_all(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    paths = write_pictures(folder, 3)
    Image.new("RGB", (50, 40), "grey").save(folder / "grey.png")
    (folder / "broken.png").write_text("no picture")
    paths += [str(folder / "broken.png"), str(folder / "grey.png")]
    skipped: list[Skipped] = []
    asked: list[int] = []
    methods = redrawn(["gradcam"], module=Standardised())(paths)
    found = check_sanity(methods, paths, workers=1, skip=skipped.append, advance=asked.append)
    assert [Path(one.path).name for one in skipped] == ["broken.png", "grey.png"]
    assert found.explained.tolist() == [True] * 3 + [False] * 2
    assert sum(asked) == 5 * maps_a_picture(methods)
    with pytest.raises(LcamError, match="scores are not finite on the only image"):
        check(redrawn(["gradcam"], module=Standardised()), paths[4:])
    with pytest.raises(LcamError, match="none of the 1 images could be read"):
        check(redrawn(["gradcam"]), paths[3:4])
