"""Increase in Confidence (Chattopadhay et al., Grad-CAM++, WACV 2018; L-CAM, Eq. 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcam_cli.measures.measure import NuMeasure

if TYPE_CHECKING:
    from torch import Tensor


class IncreaseInConfidence(NuMeasure):
    """The share of images whose confidence rises, in percent."""

    name = "ic"
    title = "IC"
    lower_is_better = False
    long_title = "Increase in Confidence, %"
    meaning = "the share of images whose score rises"
    source = "Chattopadhay et al. (Grad-CAM++), WACV 2018; L-CAM, Eq. 11"

    def compare(self, full: Tensor, kept: Tensor) -> Tensor:
        """Return 100 where the score on what is kept is higher than the full score, else 0."""
        return 100.0 * (kept > full)
