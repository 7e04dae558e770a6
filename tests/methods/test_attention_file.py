"""Attention files: round trip, the authors' formats, and what does not fit."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch

from lcam_cli.engine.identity import Identity
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.attention_file import (
    AttentionSettings,
    check_fits,
    find_attention,
    load_attention,
    save_attention,
)
from tests.tiny import SMALL, tiny_backbone

W, B = torch.randn(4, 6), torch.randn(4)


def _settings(**changes: str) -> AttentionSettings:
    known = {"name": "tiny", "weights": "none:seed=7", "layer": "3", **changes}
    return AttentionSettings(Identity(**known), ["a", "b", "c", "d"], SMALL, {"mode": "img"})


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    save_attention(path, Attention(W, B), _settings())
    read = load_attention(path)
    assert torch.equal(read.attention.W, W)
    assert torch.equal(read.attention.b, B)
    assert read.settings == _settings()
    check_fits(read, tiny_backbone())


@pytest.mark.parametrize(
    ("stem", "prefix"), [("attnM.op", ""), ("attn_mech.op", "model."), ("attn_mech.op", "")]
)
def test_the_authors_checkpoints(tmp_path: Path, stem: str, prefix: str) -> None:
    state = {
        "features.0.weight": torch.zeros(8, 3, 3, 3),
        f"{prefix}{stem}.weight": W[:, :, None, None],
        f"{prefix}{stem}.bias": B,
    }
    path = tmp_path / "epoch.ckpt"
    options = argparse.Namespace(lr=1e-3)
    torch.save({"state_dict": state, "hyper_parameters": {"args": options}}, path)
    read = load_attention(path)
    assert read.settings is None
    assert torch.equal(read.attention.W, W)
    assert torch.equal(read.attention.b, B)
    check_fits(read, tiny_backbone())


@pytest.mark.parametrize(
    ("changes", "both"),
    [
        ({"name": "vgg16"}, r"backbone vgg16, not tiny"),
        ({"layer": "1"}, r"layer 1, not 3"),
        ({"weights": "IMAGENET1K_V1"}, r"weights IMAGENET1K_V1, not none:seed=7"),
    ],
)
def test_an_attention_of_another_backbone_is_refused_naming_both(
    tmp_path: Path, changes: dict[str, str], both: str
) -> None:
    path = tmp_path / "attention.safetensors"
    save_attention(path, Attention(W, B), _settings(**changes))
    with pytest.raises(LcamError, match=both):
        check_fits(load_attention(path), tiny_backbone())


def test_other_numbers_of_channels_or_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "authors.pt"
    torch.save({"attnM.op.weight": W[:, :5, None, None], "attnM.op.bias": B}, path)
    with pytest.raises(LcamError, match="expects 5 feature maps; layer 3 of tiny has 6"):
        check_fits(load_attention(path), tiny_backbone())
    torch.save({"attnM.op.weight": W[:3, :, None, None], "attnM.op.bias": B[:3]}, path)
    with pytest.raises(LcamError, match="has 3 classes; tiny has 4"):
        check_fits(load_attention(path), tiny_backbone())


def test_files_without_an_attention_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    for state in (
        {"fc.weight": W},
        {"attnM.op.weight": W[:, :, None, None]},
        {"attnM.op.weight": W.reshape(4, 6, 1, 1).expand(4, 6, 3, 3), "attnM.op.bias": B},
    ):
        torch.save({"state_dict": state}, path)
        with pytest.raises(LcamError, match="holds no attention"):
            load_attention(path)
    torch.save({"attnM.op.weight": W[:, :, None, None] * torch.nan, "attnM.op.bias": B}, path)
    with pytest.raises(LcamError, match="not finite"):
        load_attention(path)
    from safetensors.torch import save_file

    save_file({"weight": W, "bias": B}, tmp_path / "bare.safetensors")
    with pytest.raises(LcamError, match="is no lcam-attention/1 file"):
        load_attention(tmp_path / "bare.safetensors")
    lying = {
        "format": "lcam-attention/1",
        "backbone": "[1]",
        "class_names": "{}",
        "preprocess": "3",
        "training": "[]",
    }
    save_file({"weight": W, "bias": B}, tmp_path / "lying.safetensors", lying)
    with pytest.raises(LcamError, match="cannot read"):
        load_attention(tmp_path / "lying.safetensors")


def test_the_newest_run_is_found(tmp_path: Path) -> None:
    with pytest.raises(LcamError, match="no trained attention") as caught:
        find_attention(None, tmp_path / "runs")
    assert "lcam train" in caught.value.hint
    assert "--method gradcam" in caught.value.hint
    for age, name in enumerate(["b", "a"]):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        file = folder / "attention.safetensors"
        save_attention(file, Attention(W, B), _settings())
        import os

        os.utime(file, (1000 + age, 1000 + age))
    assert find_attention(None, tmp_path / "runs").parent.name == "a"
    assert find_attention(tmp_path / "runs" / "b").parent.name == "b"
    with pytest.raises(LcamError, match="no attention file"):
        find_attention(tmp_path / "runs" / "c")


def test_preprocess_survives(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    preprocess = Preprocess(image_size=96, resize=110, mean=(0.1, 0.2, 0.3), fit="squash")
    known = _settings()
    save_attention(
        path,
        Attention(W, B),
        AttentionSettings(known.identity, known.class_names, preprocess, known.training),
    )
    settings = load_attention(path).settings
    assert settings is not None
    assert settings.preprocess == preprocess
