"""The families of methods: what ``--list-methods`` groups by, and ``--methods`` takes as names."""

from __future__ import annotations

FAMILIES = {
    "learned": "trained by lcam train; one forward pass per map",
    "gradient": "gradients of the class at the layer's feature maps",
    "features": "only the feature maps and the network's own weights",
    "perturbation": "how scores change when parts of the image or feature maps are hidden",
    "transformer": "the attention of a transformer's tokens to each other",
    "pixel": "gradients of the class at the image itself, or patches of it hidden",
    "other": "from other packages, without a family",
    "floor": "random maps, which every method should beat",
}
"""By name, what the methods of a family look at, in the order in which they are listed."""

ALL, ONE_PASS, FLOOR = "all", "one-pass", "floor"

GROUPS = (ALL, ONE_PASS, *(family for family in FAMILIES if family != FLOOR))
"""What ``--methods`` takes for several methods at once.

The default is ``one-pass``: one forward pass and one backward pass to the layer serve all its
methods, so that they cost little more than one.
"""
