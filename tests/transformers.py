"""Small transformers for tests, as torchvision builds them."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

from lcam_cli.engine.backbone import Backbone
from lcam_cli.networks.network import Network
from tests.tiny import SMALL


def tiny_vit(classes: int = 4) -> nn.Module:
    """Three blocks over 4×4 patches of a 32×32 image, and a class token."""
    return _seeded(
        lambda: VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=3,
            num_heads=2,
            hidden_dim=12,
            mlp_dim=24,
            num_classes=classes,
        )
    )


def tiny_swin(classes: int = 4) -> nn.Module:
    """Two stages of two blocks: 8×8 windows' places, then 4×4, of a 32×32 image."""
    return _seeded(
        lambda: SwinTransformer(
            patch_size=[4, 4],
            embed_dim=6,
            depths=[2, 2],
            num_heads=[1, 2],
            window_size=[2, 2],
            num_classes=classes,
        )
    )


def own_backbone(
    module: nn.Module, layer: str | None = None, *, grid: str = "", activation: str = "softmax"
) -> Backbone:
    network = Network(module, "own", "none:seed=7", preprocess=SMALL)
    return Backbone(network, layer, grid=grid, activation=activation)


def _seeded(build: type[nn.Module] | object) -> nn.Module:
    """The same values every time, large enough that patches matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module: nn.Module = build()  # type: ignore[operator]
        for parameter in module.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.3)
    return module
