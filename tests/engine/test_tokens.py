"""Tokens as feature maps: every patch where it belongs, and the class token left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torchvision.models import VisionTransformer

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.tokens import Layout, find_layout, parse_grid
from lcam_cli.errors import LcamError
from tests.transformers import own_backbone, tiny_swin, tiny_vit

SIDES = st.integers(1, 5)


@given(st.sampled_from(["maps", "grid", "list"]), SIDES, SIDES, SIDES, st.integers(0, 3))
def test_folding_and_unfolding_undo_each_other(
    kind: str, P: int, Q: int, K: int, prefix: int
) -> None:
    layout = Layout(kind, P, Q, prefix if kind == "list" else 0)  # type: ignore[arg-type]
    shape = {"maps": (2, K, P, Q), "grid": (2, P, Q, K), "list": (2, prefix + P * Q, K)}[kind]
    output = torch.rand(shape)
    A = layout.to_maps(output)
    assert A.shape == (2, K, P, Q)
    assert torch.equal(layout.to_output(A, output), output)
    changed = layout.to_output(A + 1, output)
    assert torch.equal(layout.to_maps(changed), A + 1)
    if kind == "list":
        assert torch.equal(changed[:, :prefix], output[:, :prefix])


def test_patches_come_row_by_row_after_the_class_token() -> None:
    tokens = torch.arange(7.0).view(1, 7, 1)
    assert Layout("list", 2, 3, prefix=1).to_maps(tokens).tolist() == [[[[1, 2, 3], [4, 5, 6]]]]


@pytest.mark.parametrize(
    ("shape", "grid", "layout"),
    [
        ((1, 8, 7, 7), None, Layout("maps", 7, 7)),
        ((1, 7, 7, 8), None, Layout("grid", 7, 7)),
        ((1, 8, 6, 7), None, Layout("maps", 6, 7)),
        ((1, 197, 768), None, Layout("list", 14, 14, 1)),
        ((1, 196, 768), None, Layout("list", 14, 14)),
        ((1, 201, 768), None, None),  # a class token and four registers: not to be guessed
        ((1, 201, 768), (14, 14), Layout("list", 14, 14, 5)),
        ((1, 201, 768), (14, 15), None),
        ((1, 8, 6, 7), (6, 7), Layout("maps", 6, 7)),
        ((1, 6, 7, 8), (6, 7), Layout("grid", 6, 7)),
        ((1, 6, 7, 8), (9, 9), None),
        ((1, 8, 1, 1), None, None),
        ((1, 1, 8), None, None),
        ((1, 8), None, None),
    ],
)
def test_the_layout_is_told_by_the_shape(
    shape: tuple[int, ...], grid: tuple[int, int] | None, layout: Layout | None
) -> None:
    assert find_layout(torch.zeros(shape), grid) == layout


def test_grids_are_two_whole_numbers() -> None:
    assert parse_grid("14x7") == (14, 7)
    for wrong in ("14", "14x", "0x3", "14x14x2", "axb", "14 x 14", "-1x3", "99999x1", ""):
        with pytest.raises(LcamError, match="not PxQ"):
            parse_grid(wrong)


def test_a_vit_is_cut_at_the_last_norm_whose_patches_count() -> None:
    network = tiny_vit()
    backbone = own_backbone(network)
    assert backbone.identity.layer == "encoder.layers.encoder_layer_2.ln_1"
    assert backbone.feature_shape == (12, 4, 4)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(logits, network(x))
    torch.testing.assert_close(backbone.features(x), A)
    torch.testing.assert_close(backbone.head(A, around), logits)
    assert not torch.allclose(backbone.head(A * 0.5, around), logits, atol=1e-2)


def test_replaced_patches_leave_the_class_token_as_it_was() -> None:
    network = tiny_vit()
    backbone = own_backbone(network)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    A = torch.rand(2, 12, 4, 4, generator=torch.Generator().manual_seed(3))
    assert isinstance(network, VisionTransformer)
    # The network written out, up to its last block, where the patches are exchanged.
    tokens = network._process_input(x)
    tokens = torch.cat([network.class_token.expand(2, -1, -1), tokens], 1)
    tokens = tokens + network.encoder.pos_embedding
    first, second, last = network.encoder.layers
    tokens = second(first(tokens))
    normed = last.ln_1(tokens)
    for p in range(4):
        for q in range(4):
            normed[:, 1 + 4 * p + q] = A[:, :, p, q]
    mixed = tokens + last.self_attention(normed, normed, normed, need_weights=False)[0]
    mixed = mixed + last.mlp(last.ln_2(mixed))
    expected = network.heads(network.encoder.ln(mixed)[:, 0])
    *_, around = backbone.forward(x)
    torch.testing.assert_close(backbone.head(A, around), expected)


def test_a_whole_block_can_be_named_too() -> None:
    backbone = own_backbone(tiny_vit(), "encoder.layers.encoder_layer_1")
    x = torch.rand(2, 3, 32, 32)
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(backbone.head(A, around), logits)
    seen = Engine(backbone, device="cpu").forward(x)
    g = Engine(backbone, device="cpu").feature_gradients(seen, torch.tensor([0, 3]))
    assert (g.abs().amax((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("layer", [None, "norm", "features.3.1"])
def test_a_swin_is_split_where_its_places_are_a_grid(layer: str | None) -> None:
    network = tiny_swin()
    backbone = own_backbone(network, layer)
    assert backbone.identity.layer == (layer or "permute")
    assert backbone.feature_shape == (12, 4, 4)
    assert backbone.is_split
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(logits, network(x))
    torch.testing.assert_close(backbone.head(A, around), logits)
    assert not torch.allclose(backbone.head(A.square(), around), logits, atol=1e-2)
    # The places are where the image has them: (B, P, Q, K) of the norm, by hand.
    normed = network.norm(network.features(x))
    if layer != "features.3.1":
        torch.testing.assert_close(A[:, 5, 1, 2], normed[:, 1, 2, 5])


class _Registers(nn.Module):
    """Patches behind a class token and two registers, averaged with them."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, stride=8)
        self.extra = nn.Parameter(torch.rand(1, 3, 6))
        self.mix = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.extra.expand(len(x), -1, -1), patches], 1)
        return self.fc(self.mix(tokens).mean(1))


def test_an_unknown_number_of_tokens_asks_for_the_grid() -> None:
    torch.manual_seed(0)
    with pytest.raises(LcamError, match="which of these tokens are patches") as caught:
        own_backbone(_Registers(), "mix")
    assert "--grid PxQ" in caught.value.hint
    with pytest.raises(LcamError, match=r"which does not fit a grid of 9x9"):
        own_backbone(_Registers(), "mix", grid="9x9")
    with pytest.raises(LcamError, match="which of the 19 tokens of mix"):
        own_backbone(_Registers())
    with pytest.raises(LcamError, match=r"19 = 3 \+ 4x4 would fit"):
        own_backbone(_Registers())
    for layer in (None, "mix"):
        with pytest.raises(
            LcamError, match="--grid 19x1 is 19 patches, but layer patches returns 4x4"
        ) as told:
            own_backbone(_Registers(), layer, grid="19x1")
        assert told.value.what.endswith("= 16: 3 of the 19 tokens are not patches")
        assert told.value.hint == "pass --grid 4x4"
    network = _Registers()
    backbone = own_backbone(network, "mix", grid="4x4")
    assert backbone.identity.grid == "4x4"
    assert backbone.feature_shape == (6, 4, 4)
    x = torch.rand(2, 3, 32, 32)
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(backbone.head(A, around), logits)
    # Found by itself where the grid is known.
    assert own_backbone(network, grid="4x4").identity.layer == "mix"


class _NineRegisters(_Registers):
    """25 tokens, which are 5x5 by their number alone."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.rand(1, 9, 6))


def test_a_square_number_of_tokens_is_not_taken_for_patches() -> None:
    for layer in (None, "mix"):
        with pytest.raises(LcamError, match=r"which of the 25 tokens .*; 25 = 9 \+ 4x4 would fit"):
            own_backbone(_NineRegisters(), layer)
    assert own_backbone(_NineRegisters(), "mix", grid="4x4").feature_shape == (6, 4, 4)


def test_a_picture_of_another_size_is_told() -> None:
    small = tiny_vit()
    small.image_size = 24
    with pytest.raises(LcamError, match="Wrong image height") as caught:
        own_backbone(small)
    assert "--image-size" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("vit_b_32", "encoder.layers.encoder_layer_11.ln_1", (768, 7, 7)),
        ("swin_t", "permute", (768, 7, 7)),
        ("swin_v2_t", "permute", (768, 8, 8)),
        ("maxvit_t", "blocks.3", (512, 7, 7)),
    ],
)
def test_every_transformer_family_of_torchvision(
    name: str, layer: str, shape: tuple[int, ...]
) -> None:
    backbone = load_backbone(name, "none")
    assert backbone.identity.layer == layer
    assert backbone.feature_shape == shape
    side = backbone.preprocess.image_size
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    A, logits, around = backbone.forward(x)
    torch.testing.assert_close(logits, backbone(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(backbone.head(A, around), logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(backbone.head(A.square(), around), logits)


@pytest.mark.slow
def test_a_vit_of_another_size_brings_it_in_its_weights(tmp_path: Path) -> None:
    own = torchvision.models.vit_b_32(image_size=64, num_classes=3).half()
    path = tmp_path / "mine.safetensors"
    save_file(own.state_dict(), path)
    backbone = load_backbone("vit_b_32", str(path))
    assert (backbone.preprocess.image_size, backbone.preprocess.resize) == (64, 73)  # of 224, 256
    assert backbone.feature_shape == (768, 2, 2)
    assert backbone.num_classes == 3


class _Ordered(nn.Module):
    """Patches and one class token, put in the order that is asked for."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order
        self.patches = nn.Conv2d(3, 6, 8, stride=8)
        self.extra = nn.Parameter(torch.rand(1, 1, 6))
        self.block = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.extra.expand(len(x), -1, -1), patches], 1)[:, self.order]
        return self.fc(self.block(tokens).mean(1))


def test_tokens_in_another_order_are_refused() -> None:
    torch.manual_seed(0)
    rows = list(range(1, 17))
    columns = [1 + 4 * (i % 4) + i // 4 for i in range(16)]
    assert own_backbone(_Ordered([0, *rows])).feature_shape == (6, 4, 4)
    for order, told in (
        ([*rows, 0], "tokens 0, 3, 15 of the 17 of .*, not 1, 4, 16"),
        ([0, *columns], "tokens 1, 13, 16 of the 17 of .*, not 1, 4, 16"),
    ):
        with pytest.raises(LcamError, match=told):
            own_backbone(_Ordered(order))
