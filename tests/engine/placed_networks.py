"""Networks whose cells are placed, and those that tile the image; run it for a table of both.

``python -m tests.engine.placed_networks [NAME …]`` prints a line a network: its last layer, where
``engine.grid`` says that its cells lie, and where pixels say so (``tests.engine.pixels``).
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import regnet

from lcam_cli.engine.calls import Call
from lcam_cli.engine.events import record
from lcam_cli.engine.grid import Grid, find_grids
from tests.engine.pixels import centres

TORCHVISION = [
    name
    for name in models.list_models(module=models)
    if not name.startswith(("vit_", "swin_", "maxvit"))
]
"""Every CNN among its classifiers."""

# Some of each family, mostly small.
_TIMM = """
resnet18 resnetblur50 seresnet50 legacy_xception eca_resnext26ts gcresnext26ts seresnet33ts gernet_s
repvgg_a0 mobileone_s0 regnetz_b16 regnetx_002 regnety_002 res2net50_26w_4s res2next50 skresnet18
resnetv2_18 resnetv2_50 efficientnet_b0 tf_efficientnet_b0 tf_efficientnet_lite0 efficientnet_es
efficientnet_b0_gn efficientnet_blur_b0 mixnet_s tf_mixnet_s mobilenetv1_100 spnasnet_100 fbnetc_100
tinynet_a rexnet_100 mobilenetv3_small_100 tf_mobilenetv3_small_100 mobilenetv4_conv_small
mobilenetv4_conv_blur_medium lcnet_050 hardcorenas_a densenetblur121d inception_v4
inception_resnet_v2 inception_next_atto ghostnet_050 repghostnet_050 dpn48b cspresnet50 cspresnext50
cs3darknet_focus_s darknet53 cspnext_tiny convnext_atto convnext_atto_ols convnextv2_atto fastvit_t8
poolformer_s12 edgenext_xx_small ese_vovnet19b_slim_dw selecsls42 repvit_m0_9 rdnet_tiny hgnet_tiny
hgnetv2_b0 fasternet_t0 starnet_s050 mambaout_femto efficientvit_b0 pvt_v2_b0
"""
TIMM = _TIMM.split()
"""Those all of whose branches agree."""

_BRANCHES = """
resnet18d resnet50d ecaresnet26t resnetaa50 resnetaa50d resnest14d legacy_seresnet18 dla34
nf_resnet26 nf_regnet_b0 eca_nfnet_l0 dm_nfnet_f0 hrnet_w18_small tresnet_m
mobilenetv4_conv_aa_medium
"""
BRANCHES = _BRANCHES.split()
"""Those where branches of different centres meet: 3×3 of stride 2 with padding, and a 2×2 mean."""

NEARER_TILED = {
    "nf_resnet26": "it takes a fifth of what one branch gives, as a constant of its code says",
}
"""Those of them whose cells tiles would place nearer, with equal weights."""

TILING = {
    "hrnet_w18": "branches of four resolutions are joined so often that their centres drift apart",
    "ghostnetv2_100": "its gates are resized from 3×3 places to 7×7, which are not those of cells",
    "bat_resnext26ts": "what its bilinear attention gives lies in no place",
    "cpubone_b0_bfrobust": "its attention is enlarged by convolutions that move it, more with each",
}
"""Those whose grid is not known, and why."""

_QUICK = """
resnet18 resnet18d tf_efficientnet_lite0 mobilenetv4_conv_small regnetx_002 convnext_atto
ghostnet_050 repvgg_a0 densenetblur121d
"""
QUICK = _QUICK.split()


@dataclass
class Placed:
    """What is found of a network.

    Attributes:
        side: Of the image, pixels.
        layer: The last that gives feature maps.
        grid: As ``engine.grid`` finds it.
        rows: (P,), the mean row that cells see, by pixels.
        columns: (Q,), the mean column.
    """

    side: int
    layer: str
    grid: Grid | None
    rows: Tensor
    columns: Tensor

    def largest_error(self) -> float:
        """Between both, pixels."""
        assert self.grid is not None
        return self._error_of(self.grid)

    def error_of_tiles(self) -> float:
        """The same where the cells tile the image instead."""
        step = self.side / len(self.rows)
        return self._error_of(Grid((step - 1) / 2, step))

    def _error_of(self, grid: Grid) -> float:
        expected = grid.start[0] + grid.step[0] * torch.arange(len(self.rows))
        return max(float((seen - expected).abs().max()) for seen in (self.rows, self.columns))


def build(name: str) -> nn.Module:
    """A network without values; timm's by its name, torchvision's as ``torchvision/NAME``."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how some will make their first values in the future
        if not name.startswith("torchvision/"):
            import timm

            return timm.create_model(name).eval()
        of_widths = regnet.BlockParams.from_init_params

        def with_values(*args: float, **kwargs: float) -> regnet.BlockParams:
            with torch.device("cpu"):
                return of_widths(*args, **kwargs)

        with mock.patch.object(regnet.BlockParams, "from_init_params", with_values):
            return models.get_model(name.removeprefix("torchvision/")).eval()


def place(name: str) -> Placed:
    """Find where a network's last cells lie, in both ways."""
    network = build(name)
    side = network.default_cfg["input_size"][-1] if hasattr(network, "default_cfg") else 224
    side = 299 if name == "torchvision/inception_v3" else side
    picture = torch.zeros(1, 3, side, side, device="meta")
    layer = _last_layer(network, picture)
    (grid,) = find_grids(network, [Call(layer)], picture)
    rows, columns = centres(network, layer, side)
    return Placed(side, layer, grid, rows.mean(1), columns.mean(0))


def _last_layer(network: nn.Module, picture: Tensor) -> str:
    with torch.no_grad():
        events, _ = record(network, picture, None)
    pools = (nn.AdaptiveAvgPool2d, nn.Identity, nn.Dropout)
    return [e for e in events if e.layout and e.channels > 1 and not isinstance(e.module, pools)][
        -1
    ].name


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or [
        *(f"torchvision/{name}" for name in TORCHVISION),
        *TIMM,
        *BRANCHES,
        *TILING,
    ]
    print("| network | layer | first cell, step | first cell by pixels | |")
    print("|---|---|---|---|---|")
    for name in names:
        placed = place(name)
        grid = (
            "tiles" if placed.grid is None else f"{placed.grid.start[0]:g}, {placed.grid.step[0]:g}"
        )
        seen, why = f"{float(placed.rows[0]):.1f}", TILING.get(name, "")
        print(f"| {name} | {placed.layer} | {grid} | {seen} | {why} |", flush=True)


if __name__ == "__main__":
    main()
