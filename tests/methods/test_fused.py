"""Maps of several layers, fused: against each layer by itself and against other packages."""

from __future__ import annotations

import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.contrast import Contrast
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import min_max, upsample
from lcam_cli.methods.contrasted import Contrasted
from lcam_cli.methods.fused import fused
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.placing import grid_of_maps, layers_of_cells
from lcam_cli.methods.registry import METHODS, make_method
from lcam_cli.networks.network import Network
from tests.methods.heads import Y, engine_of, network_of, pictures_of
from tests.methods.oracles import grad_cam_package
from tests.tiny import SMALL, tiny_backbone, tiny_network
from tests.transformers import own_backbone, tiny_swin, tiny_vit

LAYERS = ("1", "3")
FUSING = [name for name, entry in METHODS.items() if entry.fuses and entry.layer]


def options(**changes: object) -> MethodOptions:
    return MethodOptions(rise_masks=40, layers=LAYERS, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("name", [name for name in FUSING if name != "refinecam"])
def test_it_is_the_fusion_of_the_maps_of_each_layer(name: str, align: bool) -> None:
    engine = engine_of("smooth", align=align)
    x = pictures_of(engine)
    each = []
    for layer in LAYERS:
        other = engine_of("smooth", layer=layer, align=align)
        maps = make_method(name, other.backbone)(other, other.forward(x), Y)
        V = maps.saliency
        if name == "layercam":
            top = maps.cam.amax((1, 2), keepdim=True)
            V = upsample(torch.tanh(2 * maps.cam / top), 32, other.grid)
        each.append(V)
    stacked = torch.stack(each)
    by_hand = {"max": stacked.amax(0), "mean": stacked.mean(0), "product": stacked.prod(0)}
    for how, expected in by_hand.items():
        method = make_method(name, engine.backbone, options=options(fuse=how))
        ours = method(engine, engine.forward(x), Y)
        assert ours.cam is None
        assert method.params["layers"] == list(LAYERS)
        assert method.params["fuse"] == how
        torch.testing.assert_close(ours.saliency, min_max(expected), atol=2e-4, rtol=0)


def test_the_default_is_the_maximum_and_refinecams_is_the_product() -> None:
    engine = engine_of("smooth")
    for name, how in (("gradcam", "max"), ("layercam", "max"), ("refinecam", "product")):
        assert make_method(name, engine.backbone, options=options()).params["fuse"] == how


@pytest.mark.parametrize("method", ["gradcam++", "hirescam"])
def test_the_mean_agrees_with_the_grad_cam_package(method: str) -> None:
    package = {"gradcam++": "GradCAMPlusPlus", "hirescam": "HiResCAM"}[method]
    engine = engine_of("smooth")
    x = pictures_of(engine)
    ours = make_method(method, engine.backbone, options=options(fuse="mean"))
    V = ours(engine, engine.forward(x), Y).saliency
    expected = grad_cam_package(package, engine, x, Y, *LAYERS)
    torch.testing.assert_close(V, expected, atol=1e-4, rtol=0)


def test_refinecam_agrees_with_the_grad_cam_package() -> None:
    if not hasattr(pytorch_grad_cam, "RefineCAM"):
        pytest.skip("this grad-cam has no RefineCAM")
    engine = engine_of("smooth")
    x = pictures_of(engine)
    network = engine.backbone.network
    ours = make_method("refinecam", engine.backbone, options=options())
    V = ours(engine, engine.forward(x), Y).saliency
    layers = [network.get_submodule(layer) for layer in LAYERS]
    cam = pytorch_grad_cam.RefineCAM(network, layers)
    targets = [ClassifierOutputTarget(int(c)) for c in Y]
    expected = torch.from_numpy(cam(engine.normalise(x).clone().requires_grad_(), targets))
    # That package scales each layer's map to [0, 1] a second time before it multiplies them.
    tiled = [
        make_method("gradcam++", other.backbone)(other, other.forward(x), Y).saliency
        for other in (engine_of("smooth", layer=layer) for layer in LAYERS)
    ]
    again = min_max(fused([min_max(one) for one in tiled], "product"))
    torch.testing.assert_close(again, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(V, min_max(fused(tiled, "product")), atol=1e-4, rtol=0)


def test_layercam_scales_as_torchcam_does() -> None:
    from torchcam.methods import LayerCAM

    engine = engine_of("smooth")
    x = pictures_of(engine)
    network = engine.backbone.network
    with LayerCAM(network, list(LAYERS)) as theirs:
        scores = network(engine.normalise(x).requires_grad_())
        cams = theirs(Y.tolist(), scores, normalized=False)
        cams = [cam / cam.amax((1, 2), keepdim=True) for cam in cams]
        expected = theirs.fuse_cams(cams, (32, 32))
    ours = make_method("layercam", engine.backbone, options=options())
    V = ours(engine, engine.forward(x), Y).saliency
    torch.testing.assert_close(V, min_max(expected), atol=1e-4, rtol=0)


def test_one_forward_pass_and_one_backward_pass_to_the_earliest_layer() -> None:
    engine = engine_of("smooth")
    forward = engine.forward(pictures_of(engine))
    method = make_method("gradcam", engine.backbone, options=options())
    assert method.forward_passes == 1
    passes: list[int] = []
    network = engine.backbone.network

    def ran(_module: nn.Module, _given: object, output: Tensor) -> None:
        passes.append(len(output))
        assert not output.requires_grad, "differentiated below the earliest layer"

    network[0].register_forward_hook(ran)
    method(engine, forward, Y)
    assert passes == [3]


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (tiny_vit, ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1")),
        (tiny_swin, ("features.1", "norm")),
    ],
)
@pytest.mark.parametrize("name", ["gradcam", "eigencam", "reciprocam"])
def test_tokens_are_cells(build: object, layers: tuple[str, ...], name: str) -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1])
    each = []
    for layer in layers:
        engine = Engine(own_backbone(build(), layer), device="cpu")  # type: ignore[operator]
        forward = engine.forward(x)
        each.append(make_method(name, engine.backbone)(engine, forward, y).saliency)
    several = MethodOptions(layers=layers)
    method = make_method(name, engine.backbone, options=several)
    V = method(engine, forward, y).saliency
    torch.testing.assert_close(V, min_max(fused(each, "max")), atol=2e-4, rtol=0)


def test_layers_in_any_order_and_on_two_branches() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = network_of("smooth")[:2]
            self.left, self.right = nn.Conv2d(5, 6, 3, 2, 1), nn.Conv2d(5, 6, 1, 4)
            self.head = nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            both = [self.left(x).relu().mean((2, 3)), self.right(x).relu().amax((2, 3))]
            logits: Tensor = self.head(torch.cat(both, 1))
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = Branches().eval()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1])

    def backbone(layer: str) -> Backbone:
        return Backbone(Network(module, "branches", "none", preprocess=SMALL), layer)

    each = {}
    for layer in ("left", "right", "stem"):
        engine = Engine(backbone(layer), device="cpu")
        each[layer] = make_method("hirescam", engine.backbone)(
            engine, engine.forward(x), y
        ).saliency
    for layers in (("left", "right"), ("right", "stem", "left"), ("left", "stem")):
        engine = Engine(backbone(layers[-1]), device="cpu")
        method = make_method("hirescam", engine.backbone, options=MethodOptions(layers=layers))
        V = method(engine, engine.forward(x), y).saliency
        expected = min_max(fused([each[layer] for layer in layers], "max"))
        torch.testing.assert_close(V, expected, atol=1e-4, rtol=0)


class Detached(nn.Module):
    """A network whose logits have no gradient at its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = tiny_network()[:2], tiny_network()[2:]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.second(self.first(x).detach())
        return logits


@pytest.mark.parametrize("name", ["scorecam", "eigencam", "sidu"])
def test_what_looks_at_no_gradient_needs_none_at_any_layer(name: str) -> None:
    layers = ("first.1", "second.3")
    network = Network(Detached(), "detached", "none", preprocess=SMALL)
    engine = Engine(Backbone(network, layers[1]), device="cpu")
    method = make_method(name, engine.backbone, options=MethodOptions(layers=layers))
    V = method(engine, engine.forward(pictures_of(engine)), Y).saliency
    assert V.amax() == 1
    with pytest.raises(LcamError, match=r"at layer first\.1: its forward"):
        make_method("gradcam", engine.backbone, options=MethodOptions(layers=layers))


def test_a_contrast_of_several_layers() -> None:
    engine = engine_of("smooth")
    x = pictures_of(engine)
    contrast = Contrast(2, 0.7)
    method = make_method("gradcam", engine.backbone, options=options(contrast=contrast))
    each = []
    for layer in LAYERS:
        other = engine_of("smooth", layer=layer)
        one = Contrasted(make_method("gradcam", other.backbone), contrast)
        each.append(one(other, other.forward(x), Y).saliency)
    V = method(engine, engine.forward(x), Y).saliency
    torch.testing.assert_close(V, min_max(fused(each, "max")), atol=1e-4, rtol=0)
    assert layers_of_cells(method, engine.backbone) == list(LAYERS)


def test_cells_of_all_layers_are_recorded() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    method = make_method("gradcam", engine.backbone, options=options())
    assert layers_of_cells(method, engine.backbone) == list(LAYERS)
    grid = grid_of_maps(engine, method)
    assert grid is not None
    assert grid.step == (2, 2), "those of the first"


@pytest.mark.parametrize("name", ["gradcam", "shapleycam"])
def test_where_one_layers_cells_are_not_known_all_of_them_tile(name: str) -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    tiling = Engine(tiny_backbone(), device="cpu", align=False)
    method = make_method(name, engine.backbone, options=options())
    engine.backbone.grids_of(LAYERS)
    engine.backbone._grids["1"] = None
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    V, tiled = (method(one, one.forward(x), Y).saliency for one in (engine, tiling))
    torch.testing.assert_close(V, tiled)


class Shared(nn.Module):
    """A layer that never runs, one without effect, and one of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_network()
        self.idle = nn.Conv2d(3, 3, 1)
        self.beside = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.beside(x)
        logits: Tensor = self.inner(x)
        return logits


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (("inner.1", "nothing"), "no layer 'nothing'"),
        (("inner.1", "idle"), "'idle' does not run"),
        (("inner.1", "beside"), "beside do not change the logits"),
        (("inner.1", "inner.6"), "not feature maps"),
        (("inner.3", "inner.3"), "named twice"),
    ],
)
@pytest.mark.parametrize("name", ["gradcam", "scorecam", "refinecam"])
def test_layers_that_cannot_be_fused(name: str, layers: tuple[str, ...], said: str) -> None:
    backbone = Backbone(Network(Shared(), "shared", "none", preprocess=SMALL), "inner.3")
    with pytest.raises(LcamError, match=said):
        make_method(name, backbone, options=MethodOptions(layers=layers))


@pytest.mark.parametrize("name", ["cam", "sise"])
def test_methods_that_fuse_no_layers_say_which_do(name: str) -> None:
    with pytest.raises(
        LcamError, match=f"{name} cannot fuse the maps of several layers"
    ) as refused:
        make_method(name, tiny_backbone(), options=options())
    assert "layercam" in refused.value.hint


@pytest.mark.parametrize("layers", [(), ("3",)])
def test_a_fusion_of_one_layer_is_refused(layers: tuple[str, ...]) -> None:
    wanted = MethodOptions(layers=layers, fuse="mean")
    with pytest.raises(LcamError, match="gradcam has only one layer, so there is nothing to fuse"):
        make_method("gradcam", tiny_backbone(), options=wanted)


def test_refinecam_takes_the_last_stages_by_itself() -> None:
    method = make_method("refinecam", tiny_backbone())
    assert method.params["layers"] == ["1", "3"]
    with pytest.raises(LcamError, match="one stage of feature maps up to 1"):
        make_method("refinecam", tiny_backbone(layer="1"))
