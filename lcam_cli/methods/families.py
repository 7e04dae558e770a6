"""The families of methods: what ``--list-methods`` groups by, and ``--methods`` takes as names."""

from __future__ import annotations

FAMILIES = {
    "learned": "trained by lcam train; at inference a forward pass",
    "gradient": "gradients of the class at the layer's feature maps",
    "features": "the feature maps, and no more than the network's own weights",
    "perturbation": "how scores change where pictures or feature maps are hidden",
    "transformer": "the attention of a transformer's tokens to each other",
    "pixel": "gradients of the class at the picture itself, or patches of it hidden",
    "other": "of other packages that do not say more",
    "floor": "what knows nothing, for every method to be better than",
}
"""By name, what the methods of a family look at, in the order in which they are listed."""

ALL, ONE_PASS, FLOOR = "all", "one-pass", "floor"

GROUPS = (ALL, ONE_PASS, *(family for family in FAMILIES if family != FLOOR))
"""What ``--methods`` takes for several methods at once.

The default is ``one-pass``: one forward pass and one backward pass to the layer serve all its
methods, so that they cost little more than one.
"""
