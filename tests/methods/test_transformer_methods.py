"""Rollout, GAE and LeGrad against their authors' algorithms, written out slowly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.contrast import Contrast
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import make_method
from lcam_cli.methods.transformer import Gae, LeGrad, Rollout
from lcam_cli.networks.network import Network
from tests.methods.transformer_oracles import Pass, gae, legrad, rollout, run_torchvision
from tests.transformers import tiny_vit

CLASSES = torch.tensor([0, 3])


Run = Callable[[nn.Module, Tensor], Pass]


def run_timm(network: Any, x: Tensor) -> Pass:
    """timm's ViT with attention in Python, read where it drops attention out."""
    matrices: list[Tensor] = []
    tokens: list[Tensor] = []
    handles = []

    def note(_module: nn.Module, _given: object, output: Tensor) -> Tensor:
        matrices.append(output[0].requires_grad_() if output.is_leaf else output[0])
        return matrices[-1][None]

    for block in network.blocks:
        block.attn.fused_attn = False
        handles.append(block.attn.attn_drop.register_forward_hook(note))
        handles.append(block.register_forward_hook(lambda *given: tokens.append(given[-1])))
    with torch.enable_grad():
        logits = network(x)[0]
    for handle in handles:
        handle.remove()
    for block in network.blocks:
        block.attn.fused_attn = True
    return Pass(logits, matrices, tokens, lambda t: network.forward_head(network.norm(t))[0])


def run_hugging_face(_network: Any, x: Tensor) -> Pass:
    """Hugging Face's ViT, made anew, asked for its attentions and hidden states."""
    network: Any = hugging_face_vit()
    network.set_attn_implementation("eager")
    seen = network(x, output_attentions=True, output_hidden_states=True)
    matrices, tokens = list(seen.attentions), list(seen.hidden_states[1:])

    def head(tokens: Tensor) -> Tensor:
        return network.classifier(network.vit.layernorm(tokens)[:, 0])[0]

    return Pass(seen.logits[0], matrices, tokens, head)


def timm_vit() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm_network(timm, class_token=True, global_pool="token")


def timm_deit_distilled() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm_network(timm, name="deit_tiny_distilled_patch16_224")


def timm_mean_pooled() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm_network(timm, class_token=False, global_pool="avg")


def timm_mean_pooled_beside_a_class_token() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm_network(timm, class_token=True, global_pool="avg")


def timm_with_registers() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm_network(timm, class_token=True, global_pool="token", reg_tokens=4)


def timm_network(timm: Any, name: str = "vit_tiny_patch16_224", **settings: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network: nn.Module = timm.create_model(
            name,
            num_classes=4,
            img_size=32,
            patch_size=8,
            embed_dim=12,
            depth=3,
            num_heads=2,
            **settings,
        )
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
    return network.eval()


def hugging_face_vit() -> nn.Module:
    pytest.importorskip("transformers")
    from tests.networks.hugging_face import model_of

    return model_of("vit", num_hidden_layers=3)


def small_torchvision() -> nn.Module:
    """Another shape than square, of heads and patches: it has no symmetry to hide behind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = VisionTransformer(
            image_size=32,
            patch_size=4,
            num_layers=4,
            num_heads=3,
            hidden_dim=24,
            mlp_dim=32,
            num_classes=4,
        )
        nn.init.normal_(network.heads.head.weight)
    return network.eval()


# The network, how it runs slowly, the tokens before the patches, and those whose rows are shown.
NETWORKS: list[tuple[Callable[[], nn.Module], Run, int, tuple[int, ...] | None]] = [
    (tiny_vit, run_torchvision, 1, (0,)),
    (small_torchvision, run_torchvision, 1, (0,)),
    (timm_vit, run_timm, 1, (0,)),
    (timm_deit_distilled, run_timm, 2, (0, 1)),
    (timm_mean_pooled, run_timm, 0, None),
    (timm_mean_pooled_beside_a_class_token, run_timm, 1, None),
    (timm_with_registers, run_timm, 5, (0,)),
    (hugging_face_vit, run_hugging_face, 1, (0,)),
]


def backbone_of(network: nn.Module, prefix: int) -> Backbone:
    side = getattr(network, "patch_size", 8)
    P = 32 // side if isinstance(side, int) else 4
    own = Network(network, "own", "none:seed=7", preprocess=Preprocess(image_size=32, resize=36))
    return Backbone(own, grid=f"{P}x{P}" if prefix > 1 else "")


@pytest.mark.parametrize("method", [Rollout, Gae, LeGrad])
@pytest.mark.parametrize(
    ("build", "run", "prefix", "rows"), NETWORKS, ids=lambda v: getattr(v, "__name__", "")
)
def test_the_map_is_the_authors(
    build: Callable[[], nn.Module],
    run: Run,
    prefix: int,
    rows: tuple[int, ...] | None,
    method: Any,
) -> None:
    backbone = backbone_of(build(), prefix)
    engine = Engine(backbone, device="cpu")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    classes = CLASSES % backbone.num_classes
    forward = engine.forward(x)
    ours = method(backbone)(engine, forward, classes).cam
    assert ours is not None
    assert ours.shape == forward.A[:, 0].shape
    oracle = {Rollout: rollout, Gae: gae, LeGrad: legrad}[method]
    for i, y in enumerate(classes.tolist()):
        seen = run(backbone.network, engine.normalise(x[i : i + 1]))
        torch.testing.assert_close(seen.logits, forward.logits[i], atol=1e-4, rtol=1e-4)
        found = oracle(seen, y).detach()
        if method is not LeGrad:
            found = found[list(rows)] if rows else found[prefix:]
            found = found.mean(0)
        expected = found[prefix:].view_as(ours[i])
        span = expected.max() - expected.min()
        assert span > 0
        assert (ours[i] - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert (ours[i] - expected).abs().max() <= 1e-2 * span


@pytest.mark.parametrize("name", ["rollout", "gae", "legrad"])
def test_only_rollout_explains_no_class(name: str) -> None:
    engine = Engine(backbone_of(tiny_vit(), 1), device="cpu")
    method = make_method(name, engine.backbone)
    assert method.params == {"blocks": 3}
    forward = engine.forward(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    one, other = (method(engine, forward, torch.full((2,), y)).saliency for y in (0, 1))
    assert torch.equal(one, other) == (name == "rollout")


@pytest.mark.parametrize("name", ["rollout", "gae", "legrad"])
def test_batches_that_do_not_fit_are_halved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(backbone_of(tiny_vit(), 1), device="cpu")
    method = make_method(name, engine.backbone)
    forward = engine.forward(torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    classes = torch.tensor([0, 1, 2, 3, 0])
    expected = method(engine, forward, classes).saliency
    own = engine.backbone.network.forward

    def small(x: Tensor) -> Tensor:
        logits: Tensor = own(x)
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits

    monkeypatch.setattr(engine.backbone.network, "forward", small)
    halved = method(engine, forward, classes).saliency
    torch.testing.assert_close(halved, expected, atol=1e-5, rtol=0)
    assert engine.limit == 2


@pytest.mark.parametrize(("name", "oracle"), [("gae", gae), ("legrad", legrad)])
def test_a_contrast_takes_the_place_of_the_logit(
    name: str, oracle: Callable[[Pass, int], Tensor]
) -> None:
    """The authors' algorithms, on logits of which each is a contrast with all others."""
    backbone = backbone_of(tiny_vit(), 1)
    engine = Engine(backbone, device="cpu")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    forward = engine.forward(x)
    options = MethodOptions(contrast=Contrast(3, 0.5))
    ours = make_method(name, backbone, options=options)(engine, forward, CLASSES).cam
    assert ours is not None

    def contrasts(f: Tensor) -> Tensor:
        found = []
        for y in range(4):
            others = [i for i in range(4) if i != y]
            p = f.softmax(0)[others]
            found.append(f[y] - 0.5 * (p * f[others]).sum() / p.sum())
        return torch.stack(found)

    for i, y in enumerate(CLASSES.tolist()):
        seen = run_torchvision(backbone.network, engine.normalise(x[i : i + 1]))
        of_contrast = Pass(
            contrasts(seen.logits),
            seen.matrices,
            seen.tokens,
            lambda t, head=seen.head: contrasts(head(t)),
        )
        found = oracle(of_contrast, y).detach()
        expected = (found[0] if name == "gae" else found)[1:].view_as(ours[i])
        assert (ours[i] - expected).abs().max() <= 1e-4 * expected.abs().max()
