"""torchvision networks with seeded random weights, whose scores and gradients are not tiny."""

from __future__ import annotations

import torch
from torch import nn

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.preprocess import Preprocess

CLASSES = torch.tensor([5, 700])


def seeded_engine(name: str, side: int, batch_size: int = 32, layer: str | None = None) -> Engine:
    """An engine on the CPU; the last layer is scaled so that logits spread with σ = 4.

    Its maps tile the image, as those of other packages do.

    As initialised, all classes score 1/1000 whatever is hidden, and gradients are below the
    constants that other packages add to their denominators: any map would pass for another.
    """
    size = Preprocess(image_size=side, resize=side)
    backbone = load_backbone(name, "none", layer=layer, seed=2, preprocess=size)
    engine = Engine(backbone, device="cpu", batch_size=batch_size, align=False)
    last = [m for m in engine.backbone.network.modules() if isinstance(m, nn.Linear)][-1]
    last.weight.data *= 4 / engine.logits(pictures(side)).std()
    last.bias.data.zero_()
    return engine


def pictures(side: int) -> torch.Tensor:
    """Two images of smooth colours, (2, 3, side, side) in [0, 1]."""
    cells = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    return nn.functional.interpolate(cells, (side, side), mode="bicubic").clamp(0, 1)


def likely(engine: Engine) -> torch.Tensor:
    """The second-best class of each image: another one each, with a score to lose."""
    return engine.logits(pictures(engine.backbone.preprocess.image_size)).topk(2, 1).indices[:, 1]
