"""timm's classifiers, small ones: names, weights from files, preprocessing, the split."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.recall import Given, recall_backbone
from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network, runs_user_code

timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("test_resnet", "layer4", (96, 5, 5)),
        ("test_convnext", "stages", (64, 5, 5)),
        ("test_vit", "blocks.5.norm1", (64, 10, 10)),
        ("test_mambaout", "stages", (64, 5, 5)),  # (B, P, Q, K)
        ("test_vit3", "norm", (96, 10, 10)),  # averaged, with a class token and registers
    ],
)
def test_a_cnn_and_transformers_are_cut_and_whole(
    name: str, layer: str, shape: tuple[int, ...]
) -> None:
    backbone = load_backbone(f"timm/{name}", "none", seed=3)
    assert backbone.identity.layer == layer
    assert backbone.identity.weights == "none:seed=3"
    assert backbone.feature_shape == shape
    assert backbone.class_names[1] == "goldfish"
    x = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        own = timm.create_model(name).eval()
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(logits, own(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(backbone.head(A, around), own(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(backbone.head(A.square() + A, around), logits, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_weights_for_other_channels_and_sizes(tmp_path: Path, name: str) -> None:
    size = {"img_size": 96} if name == "test_vit" else {}
    model = timm.create_model(name, in_chans=5, num_classes=3, **size).eval()
    torch.save(model.state_dict(), tmp_path / "five.pt")
    backbone = load_backbone(f"timm/{name}", str(tmp_path / "five.pt"))
    assert backbone.preprocess.channels == 5
    assert backbone.num_classes == 3
    assert "normalised with mean" in backbone.notes[0]
    if name == "test_resnet":
        x = torch.rand(1, *backbone.preprocess.input_shape)
        torch.testing.assert_close(backbone(x), model(x), rtol=1e-3, atol=1e-4)


def test_a_default_input_that_is_no_square_of_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    config = timm.get_pretrained_cfg("test_resnet")
    changed = dataclasses.replace(config, input_size=(3, 96, 160), crop_pct=0.8)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: changed)
    own = load_network("timm/test_resnet", "none").preprocess
    assert (own.image_size, own.resize) == ((96, 160), 120)
    backbone = load_backbone("timm/test_resnet", "none")
    assert backbone.feature_shape == (96, 3, 5)


def test_the_preprocessing_is_timms() -> None:
    wanted = load_network("timm/test_vit", "none").preprocess
    told = timm.data.resolve_model_data_config(timm.create_model("test_vit"))
    transform = timm.data.create_transform(**told, is_training=False)
    assert (wanted.resize, wanted.image_size) == (
        transform.transforms[0].size,
        transform.transforms[1].size[0],
    )
    assert wanted.mean == pytest.approx(transform.transforms[-1].mean.tolist())
    assert wanted.std == pytest.approx(transform.transforms[-1].std.tolist())
    assert wanted.interpolation == transform.transforms[0].interpolation.value


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_file_brings_its_number_of_classes(tmp_path: Path, suffix: str) -> None:
    own = timm.create_model("test_vit", num_classes=7).eval()
    path = tmp_path / f"mine.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": own.state_dict()}, path)
    else:
        save_file(own.state_dict(), path)
    backbone = load_backbone("timm/test_vit", str(path))
    assert backbone.num_classes == 7
    assert backbone.class_names == list("0123456")
    assert backbone.identity.weights.startswith("sha256:")
    x = torch.rand(1, 3, 160, 160)
    torch.testing.assert_close(backbone(x), own(x))
    # What an attention or maps file says of it is enough to load it again.
    again = recall_backbone(
        "a file",
        backbone.identity,
        Given(),
        class_names=backbone.class_names,
        preprocess=backbone.preprocess,
    )
    assert again.identity == backbone.identity


def test_weights_of_another_network_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    with pytest.raises(LcamError, match="do not fit timm/test_resnet"):
        load_backbone("timm/test_resnet", str(path))


def test_names_that_timm_does_not_have() -> None:
    with pytest.raises(LcamError, match="timm has no classifier 'resnet_18'") as caught:
        load_network("timm/resnet_18", "none")
    assert "resnet18" in caught.value.hint
    with pytest.raises(LcamError, match="unknown weights 'nobodys_in1k'") as caught:
        load_network("timm/resnet18", "nobodys_in1k")
    assert "a1_in1k" in caught.value.hint
    with pytest.raises(LcamError, match="has no classes"):
        load_network("timm/vit_small_patch14_dinov2", "none")
    # A name from a stranger's file reaches neither the hub nor a folder.
    for name in ("timm/hf-hub:some/one", "timm/local-dir:/tmp"):
        assert not runs_user_code(name)
        with pytest.raises(LcamError, match="timm has no classifier"):
            load_network(name)


def test_default_weights_are_timms_and_keep_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: object) -> torch.nn.Module:
        asked.append((name, pretrained))
        module: torch.nn.Module = create(name.partition(".")[0], **options)
        return module

    monkeypatch.setattr(timm, "create_model", offline)
    for name, weights in (
        ("timm/test_resnet", "DEFAULT"),
        ("timm/test_resnet.r160_in1k", "DEFAULT"),
        ("timm/test_resnet", "r160_in1k"),
    ):
        network = load_network(name, weights)
        assert (network.name, network.weights) == (name, "r160_in1k")
    assert asked == [("test_resnet.r160_in1k", True)] * 3


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", fails)
    with pytest.raises(LcamError, match=r"weights r160_in1k of timm/test_vit: no route") as caught:
        load_network("timm/test_vit")
    assert "\n" not in caught.value.what


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(LcamError, match="timm is not installed") as caught:
        load_network("timm/resnet18", "none")
    assert "pip install '.[timm]'" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "side", "grid"),
    [("test_vit", 96, 6), ("test_vit", 224, 14), ("test_vit3", 96, 6)],
)
def test_a_file_brings_the_size_it_was_trained_at(
    tmp_path: Path, name: str, side: int, grid: int
) -> None:
    """As torchvision's ViTs: by the number of its position embeddings."""
    own = timm.create_model(name, num_classes=3, img_size=side).eval()
    torch.save(own.state_dict(), tmp_path / "w.pt")
    backbone = load_backbone(f"timm/{name}", str(tmp_path / "w.pt"))
    assert backbone.preprocess.image_size == side
    assert backbone.preprocess.resize >= side
    assert backbone.feature_shape[1:] == (grid, grid)
    x = torch.rand(1, 3, side, side)
    torch.testing.assert_close(backbone(x), own(x))


def test_position_embeddings_that_are_no_square_are_told(tmp_path: Path) -> None:
    state = timm.create_model("test_vit").state_dict()
    state["pos_embed"] = torch.rand(1, 7, state["pos_embed"].shape[2])
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(LcamError, match="only the image's size differs: pos_embed is"):
        load_backbone("timm/test_vit", str(tmp_path / "w.pt"))


def test_a_distilled_network_has_two_heads_of_the_files_classes(tmp_path: Path) -> None:
    name = "deit_tiny_distilled_patch16_224"
    own = timm.create_model(name, num_classes=3).eval()
    torch.save(own.state_dict(), tmp_path / "w.pt")
    network = load_network(f"timm/{name}", str(tmp_path / "w.pt"))
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(network.module(x), own(x))
