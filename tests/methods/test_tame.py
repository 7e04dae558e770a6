"""TAME against a slow transcription of the paper's branches and fusion, and its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.grid import Grid
from lcam_cli.engine.stages import stage_ends
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import (
    AttentionSettings,
    check_fits,
    load_attention,
    save_attention,
)
from lcam_cli.methods.tame import Tame, TameMethod, fuse
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.settings import TrainingSettings
from lcam_cli.training.step import backward
from lcam_cli.training.tame import TameModule, feature_scales
from tests.tiny import SMALL, tiny_backbone

LAYERS = ["1", "3"]


def _settings(seed: int) -> TrainingSettings:
    """As the paper has it, without kernels."""
    return TrainingSettings(
        "tame", replace(recipe_for("auto", "tiny", "tame"), kernel=0), seed=seed
    )


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_backbone(), device="cpu")


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _module(seed: int = 3) -> TameModule:
    """With branches that have left their start."""
    generator = torch.Generator().manual_seed(seed)
    scales = [torch.rand(K, generator=generator) + 0.5 for K in (5, 6)]
    module = TameModule(LAYERS, scales, torch.randn(4, 6, generator=generator), _settings(seed))
    for norm in module.norms:
        norm.weight.data.uniform_(0.5, 1.5, generator=generator)
        norm.bias.data.uniform_(-0.5, 0.5, generator=generator)
        norm.running_mean.uniform_(-0.5, 0.5, generator=generator)
        norm.running_var.uniform_(0.5, 2.0, generator=generator)
    module.fusion.delta.data.normal_(0, 0.1, generator=generator)
    module.fusion.w_shared.data.normal_(0, 0.1, generator=generator)
    return module


def _as_in_the_paper(module: TameModule, features: list[Tensor]) -> Tensor:
    """All class maps (B, R, P, Q): upsample the features, put them side by side, convolve."""
    largest = features[0].shape[2:]
    branches = [
        F.interpolate((A + norm(conv(A))).relu(), largest, mode="bilinear", align_corners=False)
        for A, conv, norm in zip(features, module.convs, module.norms, strict=True)
    ]
    W = module.fusion.fold().W
    return F.conv2d(torch.cat(branches, 1), W[:, :, None, None])


def test_maps_are_those_of_the_paper(engine: Engine, x: Tensor) -> None:
    engine.align = False
    module, classes = _module().eval(), torch.tensor([0, 3, 1])
    net, X = engine.backbone.network, engine.normalise(x)
    features = [net[:2](X).clone(), net[:4](X).clone()]
    with torch.no_grad():
        expected = _as_in_the_paper(module, features)[torch.arange(3), classes]
    method = TameMethod(module.fold(), {"training": {"layers": LAYERS}})
    first = method(engine, engine.forward(x), classes)
    torch.testing.assert_close(first.cam, expected, atol=1e-4, rtol=1e-4)
    assert first.saliency.shape == (3, 32, 32)
    # From the second batch on the layers come with the forward pass, in parts as well.
    engine.lower_limit(2)
    seen = engine.forward(x)
    assert list(seen.others) == LAYERS
    torch.testing.assert_close(method(engine, seen, classes).cam, first.cam)


def test_kernels_spread_each_layers_map_before_they_are_added_up(engine: Engine, x: Tensor) -> None:
    tame, y = _module().fold(), torch.tensor([0, 3, 1])
    generator = torch.Generator().manual_seed(8)
    kernels = [torch.randn(side, side, generator=generator) for side in (3, 5)]
    net, X = engine.backbone.network, engine.normalise(x)
    with torch.no_grad():
        features = [net[:2](X).clone(), net[:4](X).clone()]
    spread_maps = []
    for i, (A, kernel) in enumerate(zip(features, kernels, strict=True)):
        branch = (A + torch.einsum("jk,bkpq->bjpq", tame.convs[i], A)).add(
            tame.conv_biases[i][:, None, None]
        )
        L = torch.einsum("bk,bkpq->bpq", tame.fusions[i][y], branch.relu())
        turned = kernel.numpy()[::-1, ::-1]  # SciPy turns kernels around before it convolves
        spread_maps.append([ndimage.convolve(one.numpy(), turned, mode="nearest") for one in L])
    fine, coarse = (torch.tensor(np.stack(maps)) for maps in spread_maps)
    up = F.interpolate(coarse[:, None], fine.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    expected = fine + up + tame.bias[y][:, None, None]
    tame.kernels = kernels
    torch.testing.assert_close(tame(features, y), expected, atol=1e-4, rtol=1e-4)
    moved = tame.to(torch.device("cpu"))
    assert torch.equal(moved(features, y), tame(features, y))


def test_a_run_learns_a_kernel_a_layer_and_starts_without() -> None:
    settings = TrainingSettings("tame", recipe_for("auto", "tiny", "tame"), seed=3)
    module = TameModule(LAYERS, [torch.ones(5), torch.ones(6)], torch.randn(4, 6), settings)
    folded = module.fold()
    assert [kernel.shape for kernel in folded.kernels] == [(5, 5), (5, 5)]
    assert all(float(kernel.sum()) == pytest.approx(1) for kernel in folded.kernels)
    assert module.fold_start().kernels == []
    assert folded.kernels[0].data_ptr() != module.kernels[0].data_ptr()
    learned = {id(p) for o in module.optimisers(settings.recipe) for g in o.param_groups
               for p in g["params"]}  # fmt: skip
    assert learned == {id(p) for p in module.parameters()}


def test_the_loss_is_eq6_of_the_predicted_classes_maps(engine: Engine, x: Tensor) -> None:
    recipe = replace(
        recipe_for("auto", "tiny", "tame"),
        align=False,
        shown="all",
        lambda_tv=0.01,
        lambda_av=2.5,
        lambda_ce=1.0,
        lambda_drop=0.0,
    )
    module, net = _module(), engine.backbone.network
    terms = backward(engine, module, x, recipe, "tame")
    X = engine.normalise(x)
    y = net(X).argmax(1)
    maps = _as_in_the_paper(_module(), [net[:2](X).clone(), net[:4](X).clone()])
    total = torch.zeros(())
    for picture, L in zip(x, maps[torch.arange(3), y], strict=True):
        S = (L - L.min()) / (L.max() - L.min())
        tv = (S[1:] - S[:-1]).square().sum() + (S[:, 1:] - S[:, :-1]).square().sum()
        mask = F.interpolate(S[None, None], (32, 32), mode="bilinear", align_corners=False)
        label = net(engine.normalise(picture[None])).argmax()
        ce = F.cross_entropy(net(engine.normalise(picture[None] * mask)), label[None])
        total = total + (0.01 * tv + 2.5 * S.mean() + ce) / 3
    assert float(terms["loss"]) == pytest.approx(total.item(), rel=1e-4)
    assert all(p.grad is not None for p in module.parameters())


def test_a_run_begins_as_the_classifiers_own_map(engine: Engine, x: Tensor) -> None:
    seen = engine.forward(x)
    scales = feature_scales([engine.outputs_of(seen, LAYERS)])
    W0 = engine.backbone.network[6].weight.detach()
    L = TameModule(LAYERS, scales, W0, _settings(0)).fold()(
        engine.outputs_of(seen, LAYERS), seen.predicted
    )
    cam = torch.einsum("bk,bkpq->bpq", W0[seen.predicted], seen.A)
    up = F.interpolate(cam[:, None], (16, 16), mode="bilinear", align_corners=False)[:, 0]
    assert torch.corrcoef(torch.stack([L.flatten(), up.flatten()]))[0, 1] > 0.999
    expected = seen.A.square().mean((0, 2, 3)).sqrt()
    torch.testing.assert_close(scales[1], expected + 0.01 * expected.mean())


def test_maps_with_known_cells_are_put_together_where_they_lie() -> None:
    fine, coarse = torch.zeros(1, 4, 4), torch.tensor([[[0.0, 2.0], [4.0, 6.0]]])
    # Cells at pixels 0, 4, 8, 12 and 0, 8: the coarse ones lie on every second fine one.
    joined = fuse([fine, coarse], [Grid(0, 4), Grid(0, 8)])[0]
    assert joined[0].tolist() == [0, 1, 2, 2]
    assert joined[:, 0].tolist() == [0, 2, 4, 4]


def test_the_cost_does_not_grow_with_the_classes(x: Tensor) -> None:
    costs = []
    for R in (4, 4000):
        tame = Tame(
            [torch.randn(5, 5), torch.randn(6, 6)],
            [torch.zeros(5), torch.zeros(6)],
            [torch.randn(R, 5), torch.randn(R, 6)],
            torch.zeros(R),
        )
        features = [torch.rand(3, 5, 16, 16), torch.rand(3, 6, 8, 8)]
        with FlopCounterMode(display=False) as counter:
            tame(features, torch.tensor([0, 1, 2]))
        costs.append(counter.get_total_flops())
    assert costs[0] == costs[1] > 0


def test_stages_end_where_the_resolution_changes() -> None:
    assert list(stage_ends(tiny_backbone()))[-3:] == LAYERS
    mobile = list(stage_ends(load_backbone("mobilenet_v2", "none")))
    assert mobile[-3:] == ["features.6", "features.13", "features.18"]
    resnet = list(stage_ends(load_backbone("resnet18", "none", layer="layer4.1")))
    assert resnet[-2:] == ["layer3", "layer4.1"]


def _save(path: Path, layers: object) -> None:
    settings = AttentionSettings(
        tiny_backbone().identity,
        ["a", "b", "c", "d"],
        SMALL,
        {"mode": "tame", "layers": layers},
    )
    save_attention(path, _module().fold(), settings)


def test_the_file_and_lies_in_it(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    _save(path, LAYERS)
    read = load_attention(path)
    check_fits(read, tiny_backbone())
    assert read.attention.classes == 4
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(path)
    lies = [{"conv0": torch.ones(5, 6)}, {"fusion1": torch.ones(3, 6)}, {"conv2": torch.ones(1, 1)}]
    lies += [{"conv_bias1": torch.tensor(1.0)}, {"bias": torch.ones(4, 1)}]
    for lie in lies:
        save_file(tensors | lie, path, metadata)
        with pytest.raises(LcamError, match=r"needs conv \(K, K\)"):
            load_attention(path)
    for layers, told in (
        (["3"], "names 1 layers for 2 branches"),
        (None, "names 0 layers"),
        (["3", "1"], r"expects 5 feature maps of layer 3, which has 6"),
        (["nowhere", "3"], "no layer 'nowhere'"),
        (["4", "3"], "layer '4' returns no feature maps"),
    ):
        _save(path, layers)
        with pytest.raises(LcamError, match=told):
            check_fits(load_attention(path), tiny_backbone())


def test_a_file_with_kernels_and_lies_about_them(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    settings = AttentionSettings(
        tiny_backbone().identity, ["a", "b", "c", "d"], SMALL, {"mode": "tame", "layers": LAYERS}
    )
    tame = _module().fold()
    tame.kernels = [torch.randn(3, 3), torch.randn(5, 5)]
    save_attention(path, tame, settings)
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["format"] == "lcam-attention/3"
    assert metadata["mode"] == "tame"
    read = load_attention(path)
    check_fits(read, tiny_backbone())
    assert isinstance(read.attention, Tame)
    assert all(map(torch.equal, read.attention.kernels, tame.kernels))
    features, y = [torch.rand(1, 5, 16, 16), torch.rand(1, 6, 8, 8)], torch.tensor([2])
    assert torch.equal(read.attention(features, y), tame(features, y))
    tensors = load_file(path)
    lies = [torch.ones(2, 2), torch.ones(3, 5), torch.ones(9), torch.ones(1, 1, 3, 3)]
    for lie in ({"kernel1": tensor} for tensor in lies):
        save_file(tensors | lie, path, metadata)
        with pytest.raises(LcamError, match=r"with a kernel \(n, n\), n odd, for each layer"):
            load_attention(path)
    one_layers = {name: tensor for name, tensor in tensors.items() if name != "kernel1"}
    save_file(one_layers, path, metadata)
    with pytest.raises(LcamError, match="for each layer or for none"):
        load_attention(path)
    save_file(tensors | {"kernel0": torch.full((3, 3), torch.nan)}, path, metadata)
    with pytest.raises(LcamError, match="not finite"):
        load_attention(path)
    tame.kernels = []
    save_attention(path, tame, settings)
    with safe_open(path, framework="pt") as opened:
        assert opened.metadata()["format"] == "lcam-attention/2"
