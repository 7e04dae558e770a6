"""What can be checked before torch is imported, which takes longer: names, and whether files exist.

What these checks let pass is checked again by those who use it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.methods.families import GROUPS
from lcam_cli.methods.names import METHOD_NAMES, unknown_method
from lcam_cli.networks.names import DEMO_NAMES, torchvision_names
from lcam_cli.networks.unknown import WEIGHTS_FILES, unknown_backbone
from lcam_cli.networks.weights.file_kinds import check_is_file
from lcam_cli.plugins import entry_points_of

_NETWORK_FILES = (".onnx", ".pt2")


def check_maps_there(maps: Path) -> None:
    """Look for a maps file, or a folder of maps.

    Raises:
        LcamError: There is none.
    """
    if not maps.exists():
        raise LcamError(f"no maps file {maps}", "write one with lcam explain … --out FILE.h5")


def check_backbone_there(backbone: str | None, weights: str | None) -> None:
    """Look for the files that a classifier is made of.

    Args:
        backbone: As typed.
        weights: As typed.

    Raises:
        LcamError: One of them does not exist, or there is no network of that name; or the backbone
            is a file of weights, or of Python code without the function in it.
    """
    if backbone is not None and not _is_of_a_source(backbone):
        file, _, function = backbone.rpartition(":")
        suffix = Path(backbone).suffix.lower()
        if file.endswith(".py") and function.isidentifier() and not Path(file).exists():
            raise LcamError(f"no such file: {file}", "check the path")
        if suffix in (".py", *WEIGHTS_FILES) and not Path(backbone).is_dir():
            raise unknown_backbone(backbone, (), ())
        if weights in (None, "DEFAULT", "none") and backbone.isidentifier():
            _check_name(backbone)
        if suffix in _NETWORK_FILES and not Path(backbone).exists():
            check_is_file(Path(backbone))
    if weights is not None and Path(weights).suffix.lower() in WEIGHTS_FILES:
        there = Path(weights).exists() or (backbone is not None and _is_of_a_source(backbone))
        if not there:
            check_is_file(Path(weights))


def _check_name(name: str) -> None:
    of_torchvision = torchvision_names()  # none where its source is not at hand
    known = (*DEMO_NAMES, *of_torchvision)
    if of_torchvision and name not in known and not Path(name).exists():
        raise unknown_backbone(name, known, _prefixes())


def _prefixes() -> list[str]:
    """What the names of networks in libraries and hubs begin with."""
    return [f"{source}/" for source in ("timm", "hf", *entry_points_of("lcam.networks"))]


def _is_of_a_source(name: str) -> bool:
    """Whether a name is that of a network in a library or hub, however it ends: ``timm/a.pt``."""
    return name.startswith(tuple(_prefixes()))


def check_methods_known(names: Iterable[str], *, or_groups: bool = False) -> None:
    """Look for methods by name.

    Args:
        names: As typed.
        or_groups: Whether the name of a group could have been meant.

    Raises:
        LcamError: There is no method of one of these names.
    """
    if "torch" in sys.modules:  # then nothing is gained, and a program may have added methods
        return
    groups = GROUPS if or_groups else ()
    for name in names:
        known = (*METHOD_NAMES, *entry_points_of("lcam.methods"), *groups)
        if name not in known and name not in GROUPS and not name.startswith("lcam-"):
            raise unknown_method(name, known)
