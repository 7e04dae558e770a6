"""BLA and BLA-T: a classifier whose head was trained, from its file to its scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.recall import Given, recall_backbone
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention_file import (
    AttentionFile,
    AttentionSettings,
    check_fits,
    holds_trained_head,
    load_attention,
    save_attention,
)
from lcam_cli.methods.bounded_logit import Kind, PositionLogits, soft_selection
from lcam_cli.methods.recall import recall_classifier
from lcam_cli.methods.trained import method_of, names_of
from lcam_cli.methods.trained_head import TrainedHead
from tests.tiny import SMALL, tiny_backbone
from tests.transformers import tiny_swin

CODE = "tests/tiny.py:tiny_network"
KNOWN = Given(CODE)


def _learned(kind: Kind = "bla-head", K: int = 6, R: int = 4) -> TrainedHead:
    generator = torch.Generator().manual_seed(3)
    w, W, b = (torch.randn(s, generator=generator) for s in ((K,), (R, K), (R,)))
    return TrainedHead(PositionLogits(30 * w, torch.tensor(0.5), kind), W, b)


def _file(path: Path, kind: Kind = "bla-head", name: str = CODE) -> AttentionFile:
    frozen = recall_backbone_of(name)
    settings = AttentionSettings(frozen.identity, list("abcd"), SMALL, {"mode": kind})
    save_attention(path, _learned(kind), settings)
    return load_attention(path)


def recall_backbone_of(name: str) -> Backbone:
    identity = replace(tiny_backbone().identity, name=name)
    return recall_backbone("x", identity, Given(name), class_names=list("abcd"), preprocess=SMALL)


def _recalled(file: AttentionFile, given: Given = KNOWN) -> Backbone:
    assert file.settings is not None
    return recall_classifier(
        str(file.path),
        file.settings.identity,
        given,
        class_names=file.settings.class_names,
        preprocess=SMALL,
    )


def _by_hand(x: Tensor, kind: Kind) -> Tensor:
    """Position by position: W·Σ a·A + b."""
    frozen, learned = Engine(tiny_backbone(), device="cpu"), _learned(kind)
    rows = []
    for A in frozen.forward(x).A:
        places = [(p, q) for p in range(A.shape[1]) for q in range(A.shape[2])]
        ell = [float(learned.logits.w @ A[:, p, q] + learned.logits.b) for p, q in places]
        shares = torch.softmax(torch.tensor([-0.1 * max(one, 0.0) for one in ell]), 0)
        cut = 0.98 / len(places) if kind == "bla-t-head" else 0.0
        u = sum(
            max(0.0, float(s) - cut) * A[:, p, q] for s, (p, q) in zip(shares, places, strict=True)
        )
        rows.append(learned.W @ u + learned.b)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["bla-head", "bla-t-head"])
def test_the_classifier_of_a_file_is_the_frozen_features_and_the_new_head(
    kind: Kind, tmp_path: Path
) -> None:
    file = _file(tmp_path / "attention.safetensors", kind)
    classifier = _recalled(file)
    engine = Engine(classifier, device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen, expected = engine.forward(x), _by_hand(x, kind)
    torch.testing.assert_close(seen.logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(engine.logits(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(engine.head(seen.A, seen.around), expected, rtol=1e-4, atol=1e-5)
    assert engine.feature_gradients(seen, seen.predicted).abs().sum() > 0
    assert classifier.is_split
    assert classifier.linear_head() is None, "the attention comes before the pooling"
    assert classifier.grid == tiny_backbone().grid
    check_fits(file, classifier)
    soft, hard = (method_of(file, name) for name in names_of(file))
    assert [soft.name, hard.name] == [kind, f"{kind}-hard"]
    a = soft(engine, seen, seen.predicted).cam
    torch.testing.assert_close(a, soft_selection(_learned(kind).logits(seen.A), kind))


def test_it_is_a_classifier_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    file = _file(path)
    settings = file.settings
    assert settings is not None
    assert holds_trained_head(path)
    assert settings.trained_on == recall_backbone_of(CODE).identity
    assert settings.identity.weights.startswith("sha256:")
    assert settings.identity.weights_file == str(path)
    with pytest.raises(LcamError, match="was trained for weights sha256"):
        check_fits(file, recall_backbone_of(CODE))
    moved = tmp_path / "elsewhere.safetensors"
    path.rename(moved)
    with pytest.raises(LcamError, match="no longer at"):
        _recalled(file)
    assert _recalled(file, Given(CODE, str(moved))).identity == settings.identity
    other = _file(tmp_path / "other.safetensors", "bla-t-head")
    with pytest.raises(LcamError, match="was not made with the trained head of"):
        _recalled(file, Given(CODE, str(other.path)))


def test_code_that_a_file_names_is_not_run(tmp_path: Path) -> None:
    file = _file(tmp_path / "attention.safetensors")
    with pytest.raises(LcamError, match="which is code"):
        _recalled(file, Given())
    with pytest.raises(LcamError, match="not squeezenet"):
        _recalled(file, Given("squeezenet1_1"))


def test_heads_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "attention.safetensors"
    settings = _file(path).settings
    assert settings is not None
    assert settings.trained_on is not None
    frozen = replace(settings, identity=settings.trained_on, trained_on=None)
    save_attention(path, _learned(K=5), frozen)
    with pytest.raises(LcamError, match="a head of 4 classes on 5 feature maps"):
        _recalled(load_attention(path))
    save_attention(path, _learned(R=3), frozen)
    with pytest.raises(LcamError, match="4 classes for 3 rows"):
        load_attention(path)
    save_attention(path, _learned().logits, frozen)
    with pytest.raises(LcamError, match=r"needs a weight .* and a head_bias"):
        load_attention(path)
    path.write_bytes(b"damaged")
    assert not holds_trained_head(path)


def test_tokens_are_read_as_maps() -> None:
    from lcam_cli.networks.network import Network

    torch.manual_seed(0)
    backbone = Backbone(Network(tiny_swin(), "swin", "none", preprocess=SMALL))
    K, R = backbone.feature_shape[0], backbone.num_classes
    x = torch.rand(2, 3, 32, 32)
    A = backbone.features(x)
    learned = _learned(K=K, R=R)
    expected = learned.module()(A)
    classifier = backbone.with_head(learned.module(), weights="sha256:0", weights_file="")
    torch.testing.assert_close(classifier(x), expected)
    torch.testing.assert_close(classifier.features(x), A)
