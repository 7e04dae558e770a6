"""``lcam-demo`` and ``lcam-demo-vit``: the small classifiers that ship with the package."""

from __future__ import annotations

from lcam_cli.demo import network as demo
from lcam_cli.demo.vit import load_demo_vit
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.names import DEMO_NAMES
from lcam_cli.networks.network import Network

DEMO_NETWORKS = dict(zip(DEMO_NAMES, (demo.load_demo_classifier, load_demo_vit), strict=True))
"""The CNN of ``lcam demo``, and a vision transformer for the same images."""


def demo_network(name: str, weights: str) -> Network:
    """Load one of the demo's classifiers.

    Args:
        name: One of ``DEMO_NETWORKS``.
        weights: ``"DEFAULT"``: there are no others.

    Raises:
        LcamError: Other weights are asked for.
    """
    if weights != "DEFAULT":
        raise LcamError(
            f"{name} includes its own weights, so it cannot use {weights!r}", "remove --weights"
        )
    return Network(
        DEMO_NETWORKS[name](),
        name,
        "DEFAULT",
        class_names=list(demo.CLASSES),
        preprocess=Preprocess(
            image_size=demo.IMAGE_SIZE, resize=demo.RESIZE, mean=demo.MEAN, std=demo.STD
        ),
    )
