"""Attention files: round trip, the authors' formats, and what does not fit."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy import ndimage

from lcam_cli.engine.engine import Engine
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
from lcam_cli.methods.lcam import LCam
from lcam_cli.version import __version__
from tests.tiny import SMALL, tiny_backbone

W, B = torch.randn(4, 6), torch.randn(4)
KERNEL = torch.randn(5, 5)


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


def test_a_file_with_a_kernel_has_a_format_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    save_attention(path, Attention(W, B, KERNEL), _settings())
    with safe_open(path, framework="pt") as opened:
        assert opened.metadata()["format"] == "lcam-attention/3"
        assert opened.metadata()["mode"] == "img"
    read = load_attention(path)
    assert read.attention.kernel is not None
    assert torch.equal(read.attention.kernel, KERNEL)
    assert torch.equal(read.attention.W, W)
    assert torch.equal(read.attention.b, B)
    assert read.settings == _settings()
    check_fits(read, tiny_backbone())
    A, y = torch.rand(3, 6, 4, 5), torch.tensor([1, 0, 3])
    assert torch.equal(read.attention(A, y), Attention(W, B, KERNEL)(A, y))
    again = tmp_path / "again.safetensors"
    save_attention(again, read.attention, _settings())
    assert again.read_bytes() == path.read_bytes()


def test_a_file_without_a_kernel_is_that_of_0_1_0_byte_for_byte(tmp_path: Path) -> None:
    """An alphabetical header after its length, padded to a multiple of 8, and the tensors."""
    path = tmp_path / "attention.safetensors"
    save_attention(path, Attention(W, B), _settings())
    known = _settings()
    header = {
        "__metadata__": {
            "backbone": json.dumps(vars(known.identity)),
            "class_names": json.dumps(known.class_names),
            "format": "lcam-attention/1",
            "lcam_version": __version__,
            "preprocess": json.dumps(SMALL.to_json()),
            "training": json.dumps(known.training),
        },
        "bias": {"data_offsets": [0, 16], "dtype": "F32", "shape": [4]},
        "weight": {"data_offsets": [16, 112], "dtype": "F32", "shape": [4, 6]},
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    expected = len(text).to_bytes(8, "little") + text + B.numpy().tobytes() + W.numpy().tobytes()
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    ("kernel", "what"),
    [
        (torch.ones(4, 4), r"does not hold an attention: it needs a kernel \(n, n\) with n odd"),
        (torch.ones(3, 5), r"does not hold an attention: it needs a kernel \(n, n\) with n odd"),
        (torch.ones(0, 0), r"does not hold an attention: it needs a kernel \(n, n\) with n odd"),
        (torch.ones(25), r"does not hold an attention: it needs a kernel \(n, n\) with n odd"),
        (
            torch.ones(1, 1, 3, 3),
            r"does not hold an attention: it needs a kernel \(n, n\) with n odd",
        ),
        (torch.full((3, 3), torch.nan), "holds values that are not finite"),
        (torch.full((3, 3), -torch.inf), "holds values that are not finite"),
    ],
)
def test_damaged_kernels_are_refused_in_one_line(
    tmp_path: Path, kernel: torch.Tensor, what: str
) -> None:
    path = tmp_path / "attention.safetensors"
    save_attention(path, Attention(W, B, KERNEL), _settings())
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    save_file(load_file(path) | {"kernel": kernel}, path, metadata)
    with pytest.raises(LcamError, match=what) as caught:
        load_attention(path)
    assert str(path) in caught.value.what
    assert "\n" not in caught.value.what + caught.value.hint


def test_maps_of_a_file_with_a_kernel_are_those_of_scipy(tmp_path: Path) -> None:
    """SciPy turns kernels around before it convolves; networks do not."""
    path = tmp_path / "attention.safetensors"
    save_attention(path, Attention(W, B, KERNEL), _settings())
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([3, 1])
    maps = LCam.of_file(load_attention(path))(engine, engine.forward(x), classes)
    turned = KERNEL.double().numpy()[::-1, ::-1]
    with torch.no_grad():
        features = engine.backbone.network[:4](engine.normalise(x)).double().numpy()
    for A, y, L, V in zip(features, classes, maps.cam, maps.saliency, strict=True):
        plain = np.einsum("k,kpq->pq", W[y].double().numpy(), A) + float(B[y])
        expected = ndimage.convolve(plain, turned, mode="nearest")
        np.testing.assert_allclose(L.numpy(), expected, atol=1e-4)
        # Two convolutions of stride 2 with padding 1: the cells lie at pixels 0, 4, 8, ….
        scaled = (expected - expected.min()) / (expected.max() - expected.min())
        np.testing.assert_allclose(V.numpy()[::4, ::4], scaled, atol=1e-4)


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
    with pytest.raises(LcamError, match="has 3 classes, but tiny has 4"):
        check_fits(load_attention(path), tiny_backbone())


def test_files_without_an_attention_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    for state in (
        {"fc.weight": W},
        {"attnM.op.weight": W[:, :, None, None]},
        {"attnM.op.weight": W.reshape(4, 6, 1, 1).expand(4, 6, 3, 3), "attnM.op.bias": B},
    ):
        torch.save({"state_dict": state}, path)
        with pytest.raises(LcamError, match="does not hold an attention"):
            load_attention(path)
    torch.save({"attnM.op.weight": W[:, :, None, None] * torch.nan, "attnM.op.bias": B}, path)
    with pytest.raises(LcamError, match="not finite"):
        load_attention(path)
    save_file({"weight": W, "bias": B}, tmp_path / "bare.safetensors")
    with pytest.raises(LcamError, match="is not a lcam-attention/1 file"):
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
