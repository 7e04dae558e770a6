"""Where a network runs, and in which precision."""

from __future__ import annotations

from dataclasses import replace

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.device import Hardware, choose_hardware
from lcam_cli.engine.precision import Use
from lcam_cli.errors import LcamError
from lcam_cli.networks.foreign import ForeignNetwork


def hardware_for(backbone: Backbone, device: str, precision: str, use: Use = "maps") -> Hardware:
    """Pick the device and precision of a network: see :func:`~.device.choose_hardware`.

    One that another runtime computes runs where that can, in the precision that it was exported in.

    Raises:
        LcamError: There is no such device, for it or at all.
    """
    network = backbone.network
    if not isinstance(network, ForeignNetwork):
        return choose_hardware(device, precision, use)
    chosen = choose_hardware(device)
    if chosen.device.type not in network.devices:
        if device != "auto":
            raise LcamError(
                f"{network.runtime} here computes only on {' and '.join(network.devices)}, not on "
                f"{chosen.device}",
                f"use --device cpu, or install {network.runtime} for that device",
            )
        chosen = choose_hardware("cpu")
    if precision not in ("auto", "fp32"):
        choose_hardware(str(chosen.device), precision)  # it must exist all the same
        backbone.notes.append(
            f"--precision {precision} changes nothing: {backbone.identity.name} computes in the "
            "precision that it was exported in"
        )
    return replace(chosen, precision="fp32", fallbacks=())
