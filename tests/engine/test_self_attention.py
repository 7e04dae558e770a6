"""Attention matrices of all kinds of transformers, and those that show none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.swin_transformer import SwinTransformer

from lcam_cli.engine.attention_matrices import AttentionMatrices
from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.block_scores import check_blocks
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.self_attention import find_self_attention
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.registry import METHODS, make_method
from lcam_cli.networks.network import Network
from tests.methods.test_transformer_methods import timm_network
from tests.programs import export
from tests.tiny import SMALL, tiny_backbone
from tests.transformers import own_backbone, tiny_swin, tiny_vit


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("mask", [None, "bool", "float", "causal"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_step_by_step_is_pytorchs(mask: str | None, scale: float | None) -> None:
    q, k, v = drawn(2, 3, 5, 4), drawn(2, 3, 5, 4).flip(0), drawn(2, 3, 5, 4).flip(1)
    settings: dict[str, Any] = {"scale": scale, "is_causal": mask == "causal"}
    if mask in ("bool", "float"):
        allowed = torch.ones(5, 5, dtype=torch.bool).tril(2)
        settings["attn_mask"] = allowed if mask == "bool" else drawn(5, 5)
    expected = F.scaled_dot_product_attention(q, k, v, **settings)
    with AttentionMatrices() as matrices:
        found = F.scaled_dot_product_attention(q, k, v, **settings)
    torch.testing.assert_close(found, expected)
    (matrix,) = matrices.kept
    torch.testing.assert_close(matrix.sum(-1), torch.ones(2, 3, 5))
    torch.testing.assert_close(matrix @ v, expected)


def test_queries_in_groups_are_pytorchs() -> None:
    q, k, v = drawn(2, 4, 5, 4), drawn(2, 2, 5, 4), drawn(2, 2, 5, 4).flip(2)
    expected = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    with AttentionMatrices():
        found = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_multi_head_attention_gives_the_weights_that_it_is_asked_for(
    average: bool, batched: bool
) -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = drawn(3, 5, 8) if batched else drawn(5, 8)
    expected = attention(x, x, x, average_attn_weights=average)
    with AttentionMatrices() as matrices:
        found = attention(x, x, x, average_attn_weights=average)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert len(matrices.kept) == 1
    with AttentionMatrices() as matrices, torch.no_grad():
        assert attention(x, x, x, need_weights=False)[1] is None
    assert matrices.kept[0].shape[-3:] == (2, 5, 5)


def test_pytorchs_own_encoder_is_seen_through_its_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = drawn(3, 5, 8)
    with torch.no_grad():
        expected = encoder(x)
        with AttentionMatrices() as matrices:
            found = encoder(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert [m.shape for m in matrices.kept] == [(3, 2, 5, 5)] * 2


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "@": lambda s, v: s.softmax(-1) @ v,
    "matmul": lambda s, v: torch.matmul(torch.softmax(s, -1), v),
    "dropout": lambda s, v: F.dropout(F.softmax(s, dim=-1), 0.5, training=False).matmul(v),
    "module": lambda s, v: nn.Dropout(0.5).eval()(nn.Softmax(-1)(s)) @ v,
    "to": lambda s, v: F.softmax(s, -1, dtype=torch.float32).to(v.dtype) @ v,
    "bmm": lambda s, v: torch.bmm(s.flatten(0, 1).softmax(-1), v.flatten(0, 1)).view_as(v),
    "einsum": lambda s, v: torch.einsum("bhnm,bhmd->bhnd", s.softmax(-1), v),
    "a list": lambda s, v: torch.einsum("bhnm,bhmd->bhnd", [s.softmax(-1), v]),
    "a view": lambda s, v: (s.softmax(-1).view(-1, 5, 5) @ v.view(-1, 5, 4)).view_as(v),
}


@pytest.mark.parametrize("way", WAYS)
def test_attention_that_a_network_writes_out_is_seen(way: str) -> None:
    scores, v = drawn(2, 3, 5, 5), drawn(2, 3, 5, 4)
    with torch.enable_grad(), AttentionMatrices() as matrices:
        output = WAYS[way](scores, v)
    (matrix,) = matrices.kept
    torch.testing.assert_close(matrix.view(2, 3, 5, 5), scores.softmax(-1))
    (g,) = torch.autograd.grad(output.square().sum(), matrix)
    expected = 2 * (scores.softmax(-1) @ v) @ v.mT
    torch.testing.assert_close(g.view(2, 3, 5, 5), expected)


def test_a_softmax_that_multiplies_nothing_is_no_attention() -> None:
    with AttentionMatrices() as matrices:
        gate = drawn(2, 3, 5, 5).softmax(-1)
        assert (gate * drawn(2, 3, 5, 5)).shape == (2, 3, 5, 5)
        assert (drawn(2, 5).softmax(-1) @ drawn(5, 3)).shape == (2, 3)
    assert not matrices.kept


def backbone_of(network: nn.Module, size: int = 32, grid: str = "", name: str = "own") -> Backbone:
    preprocess = Preprocess(image_size=size, resize=size + 4)
    return Backbone(Network(network, name, "none:seed=7", preprocess=preprocess), grid=grid)


def same_logits(backbone: Backbone) -> None:
    """Whether a network gives the same logits while its attention is looked at."""
    C, H, W = backbone.preprocess.input_shape
    x = drawn(2, C, H, W)
    with torch.no_grad():
        expected = backbone(x)
        with AttentionMatrices() as matrices:
            found = backbone(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert matrices.kept


@pytest.mark.parametrize(
    ("settings", "prefix", "read"),
    [
        ({}, 1, (0,)),
        ({"name": "deit_tiny_distilled_patch16_224"}, 2, (0, 1)),
        ({"class_token": False, "global_pool": "avg"}, 0, tuple(range(16))),
        ({"global_pool": "avg"}, 1, tuple(range(1, 17))),
        ({"class_token": False, "global_pool": "map"}, 0, tuple(range(16))),
        ({"reg_tokens": 4}, 5, (0,)),
        ({"name": "beit_base_patch16_224"}, 1, tuple(range(1, 17))),
    ],
)
def test_timms_networks_are_understood(
    settings: dict[str, Any], prefix: int, read: tuple[int, ...]
) -> None:
    timm = pytest.importorskip("timm")
    backbone = backbone_of(timm_network(timm, **settings), grid="4x4" if prefix > 1 else "")
    same_logits(backbone)
    found = find_self_attention(backbone, "gae")
    assert (found.prefix, found.read, found.grid) == (prefix, read, (4, 4))
    assert found.blocks == ("blocks.0", "blocks.1", "blocks.2")
    check_blocks(backbone, found, "legrad")


@pytest.mark.parametrize(
    ("kind", "prefix", "read"),
    [
        ("vit", 1, (0,)),
        ("deit", 2, (0,)),
        ("deit-distilled", 2, (0, 1)),
        ("beit", 1, tuple(range(1, 17))),
        ("dinov2", 1, (0,)),
        ("dinov2-registers", 5, (0,)),
        ("siglip", 0, tuple(range(16))),
        ("clip", 1, tuple(range(1, 17))),
    ],
)
def test_hugging_faces_networks_are_understood(
    kind: str, prefix: int, read: tuple[int, ...]
) -> None:
    pytest.importorskip("transformers")
    from tests.networks.hugging_face import model_of

    backbone = backbone_of(model_of(kind), grid="4x4" if prefix > 1 else "")
    same_logits(backbone)
    found = find_self_attention(backbone, "gae")
    assert (found.prefix, found.read, found.grid) == (prefix, read, (4, 4))
    assert len(found.blocks) == 2
    check_blocks(backbone, found, "legrad")


def test_a_swin_whose_last_window_is_the_whole_grid_is_explained_by_its_last_blocks() -> None:
    torch.manual_seed(0)
    swin = SwinTransformer(
        patch_size=[4, 4],
        embed_dim=8,
        depths=[2, 2],
        num_heads=[1, 2],
        window_size=[4, 4],
        num_classes=4,
    )
    backbone = backbone_of(swin.eval())
    same_logits(backbone)
    found = find_self_attention(backbone, "gae")
    assert found.calls == (2, 3)
    assert (found.grid, found.prefix, found.read) == ((4, 4), 0, tuple(range(16)))
    for name in ("rollout", "gae", "legrad"):
        assert make_method(name, backbone).params == {"blocks": 2}


def refused(backbone: Backbone, name: str, why: str) -> None:
    with pytest.raises(LcamError) as error:
        make_method(name, backbone)
    assert why in error.value.what
    assert error.value.what.startswith(f"{name} reads ")
    assert any(other in error.value.hint for other in METHODS)


@pytest.mark.parametrize("name", ["rollout", "gae", "legrad"])
def test_windows_are_refused(name: str) -> None:
    refused(own_backbone(tiny_swin()), name, "the matrices are of 4 tokens, not of all 4x4 patches")


@pytest.mark.parametrize("name", ["rollout", "gae", "legrad"])
def test_networks_without_attention_are_refused(name: str) -> None:
    refused(tiny_backbone(), name, "in tiny there is none")


def test_networks_of_channels_attention_are_refused() -> None:
    refused(backbone_of(resnet18().eval()), "gae", "there is none")


class Hidden(nn.Module):
    """Attention of a kernel of its own: nothing of it is PyTorch's attention."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = (q @ k.mT).exp()
        return weights @ v / weights.sum(-1, keepdim=True)


class FlashAttention(Hidden):
    pass


class Blocks(nn.Module):
    """A small transformer, mean-pooled, of blocks with attention that can be seen, or not."""

    def __init__(self, kinds: list[type[nn.Module]]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.blocks = nn.ModuleList(kind(8) for kind in kinds)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = tokens + block(tokens)
        logits: Tensor = self.head(tokens.mean(1))
        return logits


class SeenAttention(Hidden):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t[:, None] for t in self.qkv(x).chunk(3, -1))
        output: Tensor = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return output


@pytest.mark.parametrize(
    "kinds", [[FlashAttention] * 2, [SeenAttention, FlashAttention, SeenAttention]]
)
def test_attention_that_nothing_shows_is_named(kinds: list[type[nn.Module]]) -> None:
    torch.manual_seed(0)
    backbone = backbone_of(Blocks(kinds).eval())
    place = kinds.index(FlashAttention)
    refused(backbone, "gae", f"that of blocks.{place} (FlashAttention)")


def test_blocks_that_the_head_cannot_read_one_by_one_are_refused_for_legrad_alone() -> None:
    torch.manual_seed(0)
    backbone = backbone_of(Blocks([SeenAttention] * 2).eval())
    assert make_method("gae", backbone).params == {"blocks": 2}
    # What each of its blocks gives is added to the tokens outside of it.
    refused(backbone, "legrad", "those of own do not follow each other")


class HeadsFirstAttention(Hidden):
    """As ``rearrange(…, "b n (h d) -> (h b) n d")`` lays it out, of two heads."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.cat(t.chunk(2, -1)) for t in self.qkv(x).chunk(3, -1))
        return torch.cat(((q @ k.mT).softmax(-1) @ v).chunk(2), -1)


class MergedAttention(Hidden):
    """The same, of ``"b n (h d) -> (b h) n d"``."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.stack(t.chunk(2, -1), 1).flatten(0, 1) for t in self.qkv(x).chunk(3, -1))
        mixed = ((q @ k.mT).softmax(-1) @ v).unflatten(0, (-1, 2))
        return torch.cat(mixed.unbind(1), -1)


class BesideAttention(Hidden):
    """Pictures of a batch look at each other's keys."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return (q @ k.flip(0).mT).softmax(-1) @ v


@pytest.mark.parametrize("name", ["rollout", "gae"])
def test_heads_and_pictures_on_one_axis_are_told_apart(name: str) -> None:
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 3, 1])
    found = []
    for kind in (HeadsFirstAttention, MergedAttention):
        torch.manual_seed(0)
        engine = Engine(backbone_of(Blocks([kind] * 2).eval()), device="cpu")
        method = make_method(name, engine.backbone)
        maps = method(engine, engine.forward(x), y).saliency
        alone = [
            method(engine, engine.forward(x[b : b + 1]), y[b : b + 1]).saliency for b in range(3)
        ]
        torch.testing.assert_close(maps, torch.cat(alone), atol=1e-4, rtol=0)
        found.append(maps)
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)


def test_attention_to_other_pictures_is_refused() -> None:
    torch.manual_seed(0)
    backbone = backbone_of(Blocks([BesideAttention] * 2).eval())
    backbone.one_by_one = ""  # as if nothing had noticed
    refused(
        backbone, "rollout", "the attention of an image depends on the other images of the batch"
    )


class InPlace(Blocks):
    """Adds to tokens in place what LayerNorm still needs for its gradient."""

    def __init__(self, blocks: int, prefix: int = 0) -> None:
        super().__init__([SeenAttention] * blocks)
        self.norm, self.mlp = nn.LayerNorm(8), nn.Linear(8, 8)
        self.prefix = nn.Parameter(torch.randn(1, prefix, 8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens += block(self.norm(tokens))
        tokens += self.mlp(self.norm(tokens))
        logits: Tensor = self.head(tokens[:, self.prefix.shape[1] :].mean(1))
        return logits


def test_attention_without_gradients_is_refused_before_pictures_are_read() -> None:
    torch.manual_seed(0)
    backbone = backbone_of(InPlace(2).eval())
    assert make_method("rollout", backbone).params == {"blocks": 2}
    refused(backbone, "gae", "no gradient at the attention: blocks 0, 1")
    refused(backbone_of(InPlace(1).eval()), "gae", "no gradient at the attention: block 0")


def test_what_is_read_is_not_guessed() -> None:
    torch.manual_seed(0)
    network = InPlace(2, prefix=1).eval()
    preprocess = Preprocess(image_size=32, resize=36)
    backbone = Backbone(
        Network(network, "own", "none:seed=7", preprocess=preprocess), "blocks.1", grid="4x4"
    )
    refused(backbone, "rollout", "lcam cannot find what the classifier reads")


def test_a_script_is_refused() -> None:
    scripted: Any = torch.jit.trace(tiny_vit().eval(), torch.rand(1, 3, 32, 32), check_trace=False)
    backbone = Backbone(Network(scripted, "scripted", "none", preprocess=SMALL))
    with pytest.raises(LcamError, match="gae needs a target layer, but scripted is TorchScript"):
        make_method("gae", backbone)


def test_an_exported_program_shows_its_attention_as_pytorch_runs_it(tmp_path: Path) -> None:
    exported = load_backbone(str(export(tiny_vit(), tmp_path / "vit.pt2")))
    plain = own_backbone(tiny_vit())
    found, expected = (find_self_attention(b, "rollout") for b in (exported, plain))
    assert (found.calls, found.prefix, found.read) == ((0, 1, 2), 1, (0,))
    assert (expected.calls, expected.prefix, expected.read) == ((0, 1, 2), 1, (0,))
    same_logits(exported)
