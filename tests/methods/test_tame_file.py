"""The checkpoints of TAME's and T-TAME's authors: their maps, what does not fit, and lies."""

from __future__ import annotations

import os
import pathlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import AttentionFile, check_fits, load_attention
from lcam_cli.methods.tame import Tame, TameMethod
from lcam_cli.methods.tame_file import PUBLISHED, settled
from lcam_cli.methods.trained import method_of
from lcam_cli.runs.authors_tame import with_its_backbone
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.reporter import Reporter
from tests.tiny import tiny_backbone
from tests.transformers import own_backbone, tiny_vit

LAYERS = ["1", "3"]
BLOCKS = [f"encoder.layers.encoder_layer_{i}" for i in range(3)]


def branches(channels: list[int], classes: int, seed: int = 5) -> dict[str, Tensor]:
    """Tensors as the authors' modules name them, with batch norms that have seen images."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for i, K in enumerate(channels):
        state[f"convs.{i}.weight"] = torch.randn(K, K, 1, 1, generator=g) / K**0.5
        state[f"convs.{i}.bias"] = torch.randn(K, generator=g)
        state[f"bns.{i}.weight"] = torch.rand(K, generator=g) + 0.5
        state[f"bns.{i}.bias"] = torch.randn(K, generator=g)
        state[f"bns.{i}.running_mean"] = torch.randn(K, generator=g)
        state[f"bns.{i}.running_var"] = torch.rand(K, generator=g) + 0.5
        state[f"bns.{i}.num_batches_tracked"] = torch.tensor(7)
    total = sum(channels)
    state["fuser.weight"] = torch.randn(classes, total, 1, 1, generator=g) / total**0.5
    state["fuser.bias"] = torch.randn(classes, generator=g)
    return state


class Hyperparameters(dict[str, Any]):
    """As Lightning's AttributeDict: a dictionary of a class that is not imported."""


def lightning(
    path: Path,
    state: dict[str, Tensor],
    network: nn.Module | None = None,
    *,
    inner: str = "",
    **settings: Any,
) -> Path:
    """A checkpoint as Lightning writes it: the attention and the classifier twice, and the rest."""
    whole = {f"generic.attn_mech.{inner}{name}": tensor for name, tensor in state.items()}
    for body in ("generic.body", "generic.arrangement.body"):
        own = network.state_dict() if network is not None else {}
        whole |= {f"{body}.{name}": tensor for name, tensor in own.items()}
    content = {
        "epoch": 7,
        "global_step": 320296,
        "pytorch-lightning_version": "2.0.2",
        "state_dict": whole,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 8}}}},
        "callbacks": {"ModelCheckpoint": {"dirpath": pathlib.PurePosixPath("/ssd/logs")}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
        "lr_schedulers": [{"anneal_func": torch.optim.lr_scheduler.OneCycleLR._annealing_cos}],
        "hparams_name": "kwargs",
        "hyper_parameters": Hyperparameters(epochs=8, input_dim=None, **settings),
    }
    torch.save(content, path)
    return path


def transcribed(
    state: dict[str, Tensor], features: list[Tensor], classes: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """All class maps at once, with torch's own batch norm and as PyTorch resizes: c and V."""
    P = min(features[0].shape[2], 56)
    branches = []
    for i, A in enumerate(features):
        normed = F.batch_norm(
            F.conv2d(A, state[f"convs.{i}.weight"], state[f"convs.{i}.bias"]),
            state[f"bns.{i}.running_mean"],
            state[f"bns.{i}.running_var"],
            state[f"bns.{i}.weight"],
            state[f"bns.{i}.bias"],
        )
        branches.append(F.interpolate((normed + A).relu(), (P, P), mode="bilinear"))
    c = F.conv2d(torch.cat(branches, 1), state["fuser.weight"], state["fuser.bias"])
    c = c[torch.arange(len(c)), classes]
    low, high = c.amin((1, 2), keepdim=True), c.amax((1, 2), keepdim=True)
    scaled = (c - low) / (high - low + 1e-10)
    return c, F.interpolate(scaled[:, None], size, mode="bilinear")[:, 0]


def read(path: Path, backbone: Backbone, layers: tuple[str, ...] = ()) -> AttentionFile:
    """A file whose layers are settled, which fits the backbone."""
    file = load_attention(path)
    assert isinstance(file.attention, Tame)
    assert file.origin is not None
    name = backbone.identity.name
    origin = settled(str(path), file.attention, file.origin, name, layers)
    file = replace(file, origin=origin)
    check_fits(file, backbone)
    return file


def outputs(network: nn.Module, x: Tensor, layers: list[str]) -> list[Tensor]:
    """What modules give, by hooks; copied, since what follows may change it in place."""
    kept: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(layer).register_forward_hook(
            lambda _m, _x, y, layer=layer: kept.update({layer: y.clone()})
        )
        for layer in layers
    ]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return [kept[layer] for layer in layers]


def as_maps(tokens: list[Tensor], side: int, *, times_class_token: bool) -> list[Tensor]:
    """Patches row by row, without their class token or multiplied by it."""
    maps = [t[:, 1:].reshape(len(t), side, side, -1).permute(0, 3, 1, 2) for t in tokens]
    if times_class_token:
        maps = [A * t[:, 0, :, None, None] for A, t in zip(maps, tokens, strict=True)]
    return maps


def _pictures(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def check_maps(
    method: TameMethod, engine: Engine, x: Tensor, y: Tensor, c: Tensor, V: Tensor
) -> None:
    """Hold maps against those expected: L to 1e-5 of its size, V to 1e-5."""
    maps = method(engine, engine.forward(x), y)
    assert maps.cam is not None
    assert float((maps.cam - c).abs().max()) < 1e-5 * float(c.abs().max())
    assert float((maps.saliency - V).abs().max()) < 1e-5


def test_their_maps_of_a_convolutional_network(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    state = branches([5, 6], 4)
    path = lightning(
        tmp_path / "theirs.ckpt",
        state,
        backbone.network,
        model_name="tiny",
        layers=LAYERS,
        attention_version="TAME",
    )
    x, y = _pictures(3, 32), torch.tensor([0, 3, 1])
    engine = Engine(backbone, device="cpu")
    features = outputs(backbone.network, engine.normalise(x), LAYERS)
    c, V = transcribed(state, features, y, (32, 32))
    file = read(path, backbone)
    assert file.training == {"mode": "tame", "layers": LAYERS}
    method = method_of(file, "tame")
    assert isinstance(method, TameMethod)
    # Its cells tile the image as in training, though the engine knows their receptive fields.
    assert engine.grids_of(LAYERS) is not None
    check_maps(method, engine, x, y, c, V)


def test_a_first_layer_above_56_cells_is_brought_to_56(tmp_path: Path) -> None:
    state = branches([5, 6], 4)
    path = tmp_path / "theirs.pt"
    torch.save({"state_dict": {f"attn.{n}": t for n, t in state.items()}, "epoch": 1}, path)
    tame = load_attention(path).attention
    assert isinstance(tame, Tame)
    features = [torch.rand(2, 5, 80, 80), torch.rand(2, 6, 40, 40)]
    y = torch.tensor([2, 0])
    c, _ = transcribed(state, features, y, (160, 160))
    assert c.shape == (2, 56, 56)
    torch.testing.assert_close(tame(features, y), c, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("version", "node", "module"),
    [
        ("TAME", ".ln", ".ln_1"),
        ("TTAME", ".ln", ".ln_1"),
        ("TAME", ".ln_1", ".ln_2"),
        ("TAME", "", ""),
    ],
)
def test_their_maps_of_a_vision_transformer(
    tmp_path: Path, version: str, node: str, module: str
) -> None:
    """torch.fx's names count calls: its "ln" is the module ln_1, its "ln_1" the module ln_2."""
    modules = [f"{block}{module}" for block in BLOCKS]
    network = tiny_vit().eval()
    state = branches([12, 12, 12], 4)
    path = lightning(
        tmp_path / "theirs.ckpt",
        state,
        network,
        inner="1.",
        model_name="own",
        layers=[f"{block}{node}" for block in BLOCKS],
        attention_version=version,
    )
    origin = load_attention(path).origin
    assert origin is not None
    # The logits do not depend on the patches of the last block: it is read, but not cut there.
    assert origin.target == (modules[-1] if module == ".ln_1" else modules[0])
    backbone = own_backbone(tiny_vit(), origin.target)
    x, y = _pictures(3, 32), torch.tensor([0, 3, 1])
    engine = Engine(backbone, device="cpu")
    tokens = outputs(network, engine.normalise(x), modules)
    features = as_maps(tokens, 4, times_class_token=version == "TTAME")
    c, V = transcribed(state, features, y, (32, 32))
    file = read(path, backbone)
    assert file.training["layers"] == modules
    method = method_of(file, "tame")
    assert isinstance(method, TameMethod)
    check_maps(method, engine, x, y, c, V)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": {f"attn.{n}": t for n, t in state.items()}, "epoch": 3},
        lambda state: {"attn_mech": {f"1.{n}": t for n, t in state.items()}, "epoch": 3},
        lambda state: state,
    ],
)
def test_files_that_hold_the_attention_alone(tmp_path: Path, wrapped: Any) -> None:
    path = tmp_path / "theirs.pt"
    state = branches([5, 6], 4)
    torch.save(wrapped(state), path)
    backbone = tiny_backbone()
    with pytest.raises(LcamError, match="does not say which layers of tiny it reads"):
        read(path, backbone)
    file = read(path, backbone, tuple(LAYERS))
    assert file.attention.classes == 4
    assert file.training["layers"] == LAYERS


def _lacks(name: str) -> dict[str, Tensor]:
    return {n: t for n, t in branches([5, 6], 4).items() if n != name}


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (_lacks("bns.1.running_var"), r"is not a complete TAME: it lacks bns\.1\.running_var"),
        (_lacks("fuser.bias"), r"lacks fuser\.bias"),
        (
            branches([5, 6], 4) | {"convs.1.weight": torch.ones(6, 5, 1, 1)},
            r"has convs\.1\.weight of shape \(6, 5, 1, 1\), but its other tensors need "
            r"\(6, 6, 1, 1\)",
        ),
        (
            branches([5, 6], 4) | {"fuser.weight": torch.ones(4, 9, 1, 1)},
            r"has fuser\.weight of shape \(4, 9, 1, 1\)",
        ),
        (branches([5, 6], 4) | {"bns.0.running_var": -torch.ones(5)}, "not finite"),
        (branches([5, 6, 6], 4), "names 2 layers for 3 branches"),
        (branches([6, 6], 4), "expects 6 feature maps of layer 1, which has 5"),
        (branches([5, 6], 3), "has 3 classes, but tiny has 4"),
    ],
)
def test_files_that_do_not_fit_say_why_in_one_line(
    tmp_path: Path, state: dict[str, Tensor], what: str
) -> None:
    path = lightning(tmp_path / "theirs.ckpt", state, layers=LAYERS, attention_version="TAME")
    with pytest.raises(LcamError, match=what) as caught:
        read(path, tiny_backbone())
    assert str(path) in caught.value.what
    assert "\n" not in caught.value.what + caught.value.hint


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"attention_version": "Sigmoidinfeaturebranch"}, "holds 'Sigmoidinfeaturebranch'"),
        ({"layers": ["3", "1"]}, "lists its layers in another order than tiny runs them"),
        ({"layers": ["1", "nowhere"]}, "no layer 'nowhere'"),
        ({"layers": 3}, "does not say which layers"),
    ],
)
def test_what_a_checkpoint_says_of_itself_is_checked(
    tmp_path: Path, settings: dict[str, Any], what: str
) -> None:
    path = lightning(tmp_path / "theirs.ckpt", branches([5, 6], 4), **settings)
    with pytest.raises(LcamError, match=what):
        read(path, tiny_backbone())


def test_two_attentions_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    state = branches([5, 6], 4)
    torch.save({f"{p}.{n}": t for p in ("a", "b") for n, t in state.items()}, path)
    with pytest.raises(LcamError, match=r"holds 2 attentions: a\., b\."):
        load_attention(path)


def test_a_classifier_with_other_weights_is_refused(tmp_path: Path) -> None:
    other = tiny_backbone().network
    with torch.no_grad():
        list(other.parameters())[-2].mul_(1.1)
    path = lightning(tmp_path / "theirs.ckpt", branches([5, 6], 4), other, layers=LAYERS)
    with pytest.raises(LcamError, match="trained with other weights of tiny") as caught:
        read(path, tiny_backbone())
    assert f"--weights {path}" in caught.value.hint


def test_a_network_that_is_known_must_be_the_files(tmp_path: Path) -> None:
    path = lightning(tmp_path / "theirs.ckpt", branches([5, 6], 4), model_name="resnet50")
    with pytest.raises(LcamError, match="was trained for resnet50, not vgg16") as caught:
        with_its_backbone(load_attention(path), BackboneOptions("vgg16"), (), Reporter())
    assert caught.value.hint == "pass --backbone resnet50"
    alone = tmp_path / "theirs.pt"
    torch.save(branches([256, 512, 512], 4), alone)
    with pytest.raises(LcamError, match=r"expects layers of 256, 512, 512 .* resnet50 have") as c:
        with_its_backbone(load_attention(alone), BackboneOptions("resnet50"), (), Reporter())
    assert c.value.hint == "pass --backbone vgg16"
    _, options = with_its_backbone(load_attention(alone), BackboneOptions("vgg16"), (), Reporter())
    assert (options.weights, options.layer) == ("IMAGENET1K_V1", "features.30")


class _RunsCode:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("where", ["hyper_parameters", "callbacks", "state_dict"])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(
    tmp_path: Path, where: str
) -> None:
    path = lightning(tmp_path / "theirs.ckpt", branches([5, 6], 4), layers=LAYERS)
    content = torch.load(path, weights_only=False)
    content[where]["more"] = _RunsCode(tmp_path / "made")
    torch.save(content, path)
    with pytest.raises(LcamError, match=r"refused: unpickling it would run .*mkdir"):
        load_attention(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PUBLISHED))
def test_their_maps_at_the_real_sizes(tmp_path: Path, name: str) -> None:
    import torchvision

    torch.manual_seed(3)
    network = torchvision.models.get_model(name, weights=None).eval()
    nn.init.normal_([m for m in network.modules() if isinstance(m, nn.Linear)][-1].weight, std=0.02)
    is_vit = name == "vit_b_16"
    state = branches(list(PUBLISHED[name].values()), 1000)
    nodes = [layer.removesuffix("_1") if is_vit else layer for layer in PUBLISHED[name]]
    path = lightning(
        tmp_path / "theirs.ckpt",
        state,
        network,
        inner="1." if is_vit else "",
        model_name=name,
        layers=nodes,
        attention_version="TAME",
    )
    file, options = with_its_backbone(load_attention(path), BackboneOptions(name), (), Reporter())
    assert options.weights == str(path)
    backbone = load_backbone(name, str(path), layer=options.layer)
    check_fits(file, backbone)
    engine = Engine(backbone, device="cpu")
    x, y = _pictures(1, 224), torch.tensor([321])
    features = outputs(network, engine.normalise(x), list(PUBLISHED[name]))
    if is_vit:
        features = as_maps(features, 14, times_class_token=False)
    c, V = transcribed(state, features, y, (224, 224))
    method = method_of(file, "tame")
    assert isinstance(method, TameMethod)
    check_maps(method, engine, x, y, c, V)
