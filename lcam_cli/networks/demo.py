"""``lcam-demo``: the small classifier that ships with the package, for ``lcam demo``."""

from __future__ import annotations

from lcam_cli.demo import network as demo
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.network import Network


def demo_network(name: str, weights: str) -> Network:
    """Load the demo's classifier.

    Args:
        name: What the user calls it.
        weights: ``"DEFAULT"``: there are no others.

    Raises:
        LcamError: Other weights are asked for.
    """
    if weights != "DEFAULT":
        raise LcamError(
            f"{name} comes with its own weights, not {weights!r}", "leave --weights out"
        )
    return Network(
        demo.load_demo_classifier(),
        name,
        "DEFAULT",
        class_names=list(demo.CLASSES),
        preprocess=Preprocess(
            image_size=demo.IMAGE_SIZE, resize=demo.RESIZE, mean=demo.MEAN, std=demo.STD
        ),
    )
