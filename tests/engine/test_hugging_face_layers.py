"""Target layers of Hugging Face's networks: which, how their tokens are read, and the cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.grid import Grid
from tests.networks.hugging_face import SMALL, write_folder

pytest.importorskip("transformers")

# Patches of 8×8, of which 4×4 cover the image of 32×32.
PATCHES = ("vit", "deit", "deit-distilled", "beit", "dinov2", "dinov2-registers", "siglip", "clip")
PATCHES += ("ijepa", "vit-msn", "data2vec")
# These run whole, with a hook at their layer.
NOT_CUT = ("data2vec", "pvt", "pvt-v2", "levit", "cvt", "hiera")


def check(kind: str, folder: Path) -> None:
    """A, put back, gives the logits; where A is another, others."""
    own = write_folder(folder, kind)
    backbone = load_backbone(f"hf/{folder}")
    preprocess = backbone.preprocess
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, *preprocess.input_shape, generator=generator)
    with torch.no_grad():
        logits = own(x.flip(1) if "mobilevit" in kind else x).logits
        A, forward, around = backbone.forward(x)
        torch.testing.assert_close(forward, logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(backbone.head(A, around), logits, rtol=1e-4, atol=1e-5)
        other = backbone.head(torch.randn(A.shape, generator=generator), around)
    assert (other - logits).abs().max() > 1e-3 * logits.abs().max()
    assert backbone.differentiable
    assert not backbone.notes
    assert not backbone.one_by_one
    assert backbone.is_split == (kind not in NOT_CUT)
    if kind in PATCHES:
        assert backbone.feature_shape == (16, 4, 4)
        # Followed pixel by pixel, whatever the class tokens before the patches.
        assert backbone.grid == Grid(3.5, 8)


@pytest.mark.parametrize("kind", ["vit", "deit-distilled", "dinov2-registers", "swin", "convnext"])
def test_the_layer_is_found_and_the_network_cut(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_so_for_all_architectures(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path)


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("deit", "deit.layers.1.layernorm_before"),
        ("dinov2", "dinov2.layernorm"),
        ("resnet", "resnet.encoder.stages.3"),
        ("mobilenet-v2", "mobilenet_v2.conv_1x1"),
        ("swin", "swin.layernorm"),
    ],
)
def test_the_layer_is_the_last_whose_places_reach_the_classifier(
    kind: str, layer: str, tmp_path: Path
) -> None:
    write_folder(tmp_path, kind)
    found = load_backbone(f"hf/{tmp_path}").identity.layer
    # transformers 4 has other names for the blocks of some.
    assert found.replace("encoder.layer.", "layers.") == layer
