"""Methods put cells where they lie unless the engine is told to tile, as the commands do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lcam_cli import ExplainOptions, explain, explain_folder
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.grid import Grid
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.methods.amg import Amg, Gates
from lcam_cli.methods.attention import Attention, min_max, upsample
from lcam_cli.methods.base import Maps
from lcam_cli.methods.bounded_logit import Bla, HardPositions, PositionLogits
from lcam_cli.methods.lcam import LCam
from lcam_cli.methods.noise import RandomMap
from lcam_cli.methods.placing import grid_of_maps, layers_of_cells
from lcam_cli.methods.registry import make_method
from lcam_cli.methods.tame import Tame, TameMethod
from lcam_cli.networks.network import Network
from lcam_cli.runs.options import BackboneOptions
from tests.packages import Install
from tests.tiny import SMALL, tiny_backbone, tiny_network, write_pictures

TILED = {"training": {"align": False, "layers": ["1", "3"]}}
"""What the file of an attention says that the paper's recipe has trained."""


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _gates() -> Gates:
    return Gates(_drawn(2, 6), _drawn(2), _drawn(6, 2), _drawn(6), _drawn(1, 2, 7, 7), _drawn(1))


def _tame() -> Tame:
    return Tame(
        [_drawn(5, 5), _drawn(6, 6)],
        [_drawn(5), _drawn(6)],
        [_drawn(4, 5), _drawn(4, 6)],
        _drawn(4),
    )


class OfAPackage:
    """A method that leaves the drawing to ``Maps.of_cam``."""

    name = "of-a-package"
    forward_passes = 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        return Maps.of_cam(forward.A.sum(1), forward)


METHODS: dict[str, Callable[[Backbone], Any]] = {
    "lcam": lambda _: LCam(Attention(_drawn(4, 6), _drawn(4)), "lcam-img", dict(TILED)),
    "amg": lambda _: Amg(_gates(), dict(TILED)),
    "bla": lambda _: Bla(PositionLogits(_drawn(6), torch.tensor(-0.1), "bla"), dict(TILED)),
    "tame": lambda _: TameMethod(_tame(), dict(TILED)),
    "random": lambda _: RandomMap(0),
    "a package's": lambda _: OfAPackage(),
    "gradcam": lambda backbone: make_method("gradcam", backbone),
}


@pytest.mark.parametrize("name", METHODS)
def test_cells_lie_where_they_lie_however_the_method_was_trained(name: str) -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 3, 1])
    method = METHODS[name](engine.backbone)
    maps = method(engine, engine.forward(x), classes)
    zeta = min_max(maps.cam)
    # Each convolution of stride 2 with padding 1 has its first cell on the first pixel.
    step = 32 // zeta.shape[1]
    torch.testing.assert_close(maps.saliency[:, ::step, ::step], zeta)
    between = (zeta[:, :-1, 0] + zeta[:, 1:, 0]) / 2
    torch.testing.assert_close(maps.saliency[:, step // 2 : -step : step, 0], between)
    tiling = Engine(engine.backbone, device="cpu", align=False)
    tiled = method(tiling, tiling.forward(x), classes)
    V = functional.interpolate(min_max(tiled.cam)[:, None], (32, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(tiled.saliency, V)
    assert (V - maps.saliency).abs().max() > 0.1


def test_positions_that_are_chosen_lie_there_too() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    forward = engine.forward(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    method = HardPositions(PositionLogits(_drawn(6), torch.tensor(-0.1), "l2x-f"), dict(TILED))
    maps = method(engine, forward, torch.tensor([0, 1]))
    assert maps.cam is not None
    assert torch.equal(maps.saliency[:, ::4, ::4], maps.cam)


def test_in_python_as_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    paths = write_pictures(tmp_path / "photos", 3)
    options = ExplainOptions(
        method="gradcam",
        backbone=BackboneOptions("own.py:net", image_size=32),
        map_dtype="float32",
    )
    explain_folder("photos", "maps.h5", options)
    with MapsFile(Path("maps.h5")) as maps:
        written, info = maps.rows(0, 3).saliency, maps.info
    preprocess = Preprocess.from_json(info.preprocess)
    network = Network(tiny_network(), "own.py:net", "none", preprocess=preprocess)
    engine = Engine(Backbone(network, info.layer), device="cpu")
    (rows,) = explain(engine, "gradcam", paths)
    torch.testing.assert_close(torch.from_numpy(rows.saliency), torch.from_numpy(written))


def test_where_one_of_tames_layers_is_not_known_all_of_them_tile() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 1])
    method = TameMethod(_tame(), dict(TILED))
    assert grid_of_maps(engine, method) == Grid(0, 2)
    engine.backbone._grids["1"] = None
    assert engine.grid == Grid(0, 4), "that of the target layer is, but has nothing to say"
    assert grid_of_maps(engine, method) is None
    maps = method(engine, engine.forward(x), classes)
    assert maps.cam is not None
    torch.testing.assert_close(maps.saliency, upsample(min_max(maps.cam), 32))


def test_a_map_of_other_cells_than_the_layers_tiles_the_picture() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    forward = engine.forward(torch.rand(2, 3, 32, 32))
    L = torch.rand(2, 16, 16)
    assert torch.equal(Maps.of_cam(L, forward).saliency, upsample(min_max(L), 32))
    placed = Maps.of_cam(L, forward, Grid(0, 2)).saliency
    assert torch.equal(placed[:, ::2, ::2], min_max(L))


PACKAGE = """
class Own:
    params = {{}}
    forward_passes = 1
    name = "{name}"
    def __call__(self, engine, forward, classes):
        raise NotImplementedError
def make(backbone, options):
    return Own()
{says}
"""


@pytest.mark.parametrize(
    ("says", "placed"),
    [
        ("", True),
        ("make.gradients = True", True),
        ("make.cells = False", False),
        ("make.layer = False", False),
        ("make.layer, make.cells = False, True", True),
    ],
)
def test_a_package_says_whether_its_maps_are_made_of_cells(
    install: Install, says: str, placed: bool
) -> None:
    install("lcam_own_cells", PACKAGE.format(name="own", says=says), {"own": "lcam_own_cells:make"})
    engine = Engine(tiny_backbone(), device="cpu")
    method = make_method("own", engine.backbone)
    assert layers_of_cells(method, engine.backbone) == (["3"] if placed else [])
    assert grid_of_maps(engine, method) == (Grid(0, 4) if placed else None)


def test_methods_without_cells_of_a_layer_have_no_grid() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    assert layers_of_cells(make_method("rise", engine.backbone), engine.backbone) == []
    sise = make_method("sise", engine.backbone)
    assert layers_of_cells(sise, engine.backbone) == sise.params["blocks"]
    scripted = torch.jit.trace(tiny_network().eval(), torch.rand(1, 3, 32, 32))
    assert isinstance(scripted, nn.Module)
    without = Engine(Backbone(Network(scripted, "scripted", "none", preprocess=SMALL)))
    assert not without.backbone.has_layer
    assert layers_of_cells(RandomMap(), without.backbone) == []
    assert without.grid is None
