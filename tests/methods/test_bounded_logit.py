"""BLA-PH and L2X-F: their equations by hand, and their maps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import upsample
from lcam_cli.methods.attention_file import (
    AttentionFile,
    AttentionSettings,
    check_fits,
    load_attention,
    save_attention,
)
from lcam_cli.methods.bounded_logit import (
    Bla,
    HardPositions,
    PositionLogits,
    fixed_selection,
    hard_selection,
    soft_selection,
)
from lcam_cli.methods.trained import is_trained, method_of, names_of
from tests.tiny import SMALL, tiny_backbone


def test_the_selections_worked_by_hand() -> None:
    logits = torch.tensor([[[-3.0, 0.0], [10.0, 20.0]]])
    # β = 0, 0, −10, −20; times τ = 0.1: e^0, e^0, e^−1, e^−2.
    total = 2 + math.exp(-1) + math.exp(-2)
    shares = [1 / total, 1 / total, math.exp(-1) / total, math.exp(-2) / total]
    expected = [max(0.0, share - 0.98 / 4) for share in shares]
    assert expected[2] == 0
    assert soft_selection(logits).flatten().tolist() == pytest.approx(expected, abs=1e-7)
    assert hard_selection(logits).flatten().tolist() == [1, 1, 0, 0]
    # Above the bound everywhere: the largest bounded logit is that of the smallest logit.
    assert hard_selection(logits + 5).flatten().tolist() == [1, 0, 0, 0]
    assert fixed_selection(logits, 2).flatten().tolist() == [0, 0, 1, 1]
    assert fixed_selection(logits).sum() == 4


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(2, 9), st.floats(0.1, 100))
def test_what_holds_for_all_selections(seed: int, P: int, Q: int, size: float) -> None:
    logits = size * torch.randn(3, P, Q, generator=torch.Generator().manual_seed(seed))
    a, hard, fixed = soft_selection(logits), hard_selection(logits), fixed_selection(logits)
    assert (a >= 0).all()
    assert (a.sum((1, 2)) <= 1 + 1e-5).all()
    assert (hard.sum((1, 2)) >= 1).all()
    assert (fixed.sum((1, 2)) == min(8, P * Q)).all()
    # What the hard explanation holds is what the soft one gives most.
    assert ((a == a.amax((1, 2), keepdim=True)) | (hard == 0)).all()
    # One level for all selected, and no map changes with the logits below the bound.
    assert torch.allclose(soft_selection(logits.clamp_min(0)), a)


def _logits(seed: int = 2) -> PositionLogits:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(6, generator=generator)
    return PositionLogits(w, torch.tensor(-0.1), "bla")


def test_maps_are_those_of_the_positions_and_the_same_for_every_class() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen, learned = engine.forward(x), _logits()
    logits = torch.stack([sum(learned.w[k] * A[k] for k in range(6)) + learned.b for A in seen.A])
    zero, two = torch.zeros(3, dtype=torch.int64), torch.full((3,), 2)
    soft = Bla(learned, {})
    first, other = soft(engine, seen, zero), soft(engine, seen, two)
    assert torch.equal(first.saliency, other.saliency)
    torch.testing.assert_close(first.cam, soft_selection(logits), atol=1e-6, rtol=0)
    for kind, name, select in (
        ("bla", "bla-hard", hard_selection),
        ("l2x-f", "l2x-f", fixed_selection),
    ):
        method = HardPositions(PositionLogits(learned.w, learned.b, kind), {})
        assert method.name == name
        maps = method(engine, seen, zero)
        assert torch.equal(maps.cam, select(logits))
        # Two convolutions of stride 2 with padding 1: the cells lie at pixels 0, 4, 8, ….
        assert torch.equal(maps.saliency[:, ::4, ::4], select(logits))
        engine.align = False
        tiled = method(engine, engine.forward(x), zero)
        assert torch.equal(tiled.saliency, upsample(select(logits), 32))
        engine.align = True
    everything = PositionLogits(torch.zeros(6), torch.tensor(-1.0), "bla")
    assert (HardPositions(everything, {})(engine, seen, zero).saliency == 1).all()


def _settings(mode: str = "bla") -> AttentionSettings:
    identity = tiny_backbone().identity
    return AttentionSettings(identity, ["a", "b", "c", "d"], SMALL, {"mode": mode})


def test_a_file_says_its_mode_and_brings_both_maps(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    save_attention(path, _logits(), _settings())
    read = load_attention(path)
    assert isinstance(read.attention, PositionLogits)
    assert torch.equal(read.attention.w, _logits().w)
    assert names_of(read) == ["bla", "bla-hard"]
    assert [method_of(read, name).name for name in names_of(read)] == names_of(read)
    check_fits(read, tiny_backbone())
    fixed = PositionLogits(torch.ones(5), torch.tensor(0.0), "l2x-f")
    save_attention(path, fixed, _settings("l2x-f"))
    assert names_of(load_attention(path)) == ["l2x-f"]
    with pytest.raises(LcamError, match="expects 5 feature maps"):
        check_fits(load_attention(path), tiny_backbone())
    assert is_trained("bla (run)")
    assert not is_trained("gradcam")


def _lie(path: Path, tensors: dict[str, Tensor], **changes: str) -> AttentionFile:
    from safetensors import safe_open

    save_attention(path, _logits(), _settings())
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata() | changes
    save_file(load_file(path) | tensors, path, metadata)
    return load_attention(path)


def test_files_with_lies_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    with pytest.raises(LcamError, match="mode 'bla2', which this version does not know"):
        _lie(path, {}, mode="bla2")
    with pytest.raises(LcamError, match=r"cannot read .* mode l2x-f, but trained as bla"):
        _lie(path, {}, mode="l2x-f")
    with pytest.raises(LcamError, match=r"needs a weight \(K,\) and a bias \(\)"):
        _lie(path, {"weight": torch.ones(4, 6)})
    with pytest.raises(LcamError, match=r"needs a weight \(R, K\)"):  # as if it were L-CAM's
        _lie(path, {}, format="lcam-attention/1")
    with pytest.raises(LcamError, match="not finite"):
        _lie(path, {"bias": torch.tensor(float("nan"))})
