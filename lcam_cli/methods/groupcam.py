"""Group-CAM: groups of weighted feature maps are masks over a blurred image.

Zhang, Rao, Yang: Group-CAM: Group Score-Weighted Visual Explanations for Deep Convolutional
Networks, arXiv 2103.13859, 2021.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lcam_cli.engine.activation import confidence
from lcam_cli.engine.channel_gradients import channel_gradients
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.methods.attention import min_max, upsample
from lcam_cli.methods.base import Maps
from lcam_cli.methods.scorecam import stretch

_GROUPS = 32
_HIDDEN = 0.7  # share of an image's mask cells that are set to zero
_KERNEL, _SIGMA = 51, 50.0


class GroupCam:
    """M_l = ζ(θ(ReLU(Σ_k∈l α_k A_k))), α of Grad-CAM, over 32 groups l of neighbouring channels.

    Cells below an image's 70th percentile are zero first. With B the blurred image,
    s_l = f_y(X·M_l + B·(1 − M_l)) − f_y(B), softmax scores; V = ζ(ReLU(Σ_l s_l M_l)). Where there
    are no gradients, α is measured.
    """

    name = "groupcam"
    forward_passes = _GROUPS + 1

    def __init__(self) -> None:
        self.params: dict[str, Any] = {"groups": _GROUPS}

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """32 masked forward passes, one of the blurred image, and α."""
        B, _, height, width = forward.x.shape
        alpha = channel_gradients(engine, forward, classes)
        weighted = alpha[:, :, None, None] * forward.A
        cells = torch.stack([g.sum(1).relu() for g in weighted.chunk(_GROUPS, 1)], 1)
        cut = cells.flatten(1).float().quantile(_HIDDEN, dim=1)
        cells = torch.where(cells > cut[:, None, None, None], cells, 0)

        background = blurred(forward.x)
        base = confidence(engine.logits(background), classes, engine.activation)[:, None]
        forwards = MaskedForwards(engine, forward.x, classes, background)

        def masks(picture: int) -> Tensor:
            return stretch(upsample(cells[picture], (height, width), forward.grid))

        scores = forwards.scores((b, masks(b)) for b in range(B)).view(B, -1) - base
        L = torch.stack([torch.einsum("n,nhw->hw", scores[b], masks(b)) for b in range(B)])
        return Maps(min_max(L.relu()))


def blurred(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) under a Gaussian of 51×51 pixels (less in small ones), σ = 50.

    Their edges are mirrored. Along one axis a blur is a matrix, and two products take a sixteenth
    of the time of the convolution with all 51 × 51 weights.
    """
    kernel = min(_KERNEL, 2 * min(x.shape[2], x.shape[3]) - 1)
    down, across = (_blur(x.shape[axis], kernel).to(x) for axis in (2, 3))
    return down @ x @ across.T


def _blur(length: int, kernel: int) -> Tensor:
    """The Gaussian along one axis, (length, length): row i has the weights of what becomes i."""
    margin = kernel // 2
    weights = torch.exp(-0.5 * (torch.arange(-margin, margin + 1) / _SIGMA) ** 2)
    # What it makes of the unit vectors, mirrored at both ends.
    units = F.pad(torch.eye(length)[:, None], (margin, margin), mode="reflect")
    return F.conv1d(units, (weights / weights.sum())[None, None])[:, 0].T.contiguous()
