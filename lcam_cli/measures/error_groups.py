"""Why was this image misclassified? Three groups, after the qualitative analysis of L-CAM (4.4).

A map alone cannot tell whether a class finds evidence: it is scaled to [0, 1], so the map of a
class that finds none has a maximum too. So what counts here are scores: what the classifier says
when it sees nothing but the region that the true class's map names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Group(StrEnum):
    """The groups of misclassified images, with the paper's figures of them.

    The values are those of JSON and CSV. What people read says no more than the rule does: that
    two classes are related, or that an image has several objects, is for them to see.
    """

    RELATED = "related"
    """Related classes (Fig. 5): both maps mark the same region."""
    SEVERAL = "several"
    """Several objects (Fig. 6): the true class is there, elsewhere, and known by its own region."""
    BIAS = "bias"
    """Class bias candidates (Fig. 7-9): the true class finds too little evidence anywhere."""

    @property
    def words(self) -> str:
        """What it is called for people: the rule in a few words."""
        return _WORDS[self]


_WORDS = {
    Group.RELATED: "same region",
    Group.SEVERAL: "right on own region",
    Group.BIAS: "too little evidence",
}

REGION_NU = 25.0
SAME_REGION = 0.5
EVIDENCE = 0.1


@dataclass(frozen=True)
class Rules:
    """What the groups are known by.

    Attributes:
        nu: Percent of the pixels in a class's region, the brightest of its map.
        same_region: Two regions with at least this intersection over union are the same one.
        evidence: The true class has found evidence where it scores at least this share, in
            [0, 1], of what the predicted class scores on the whole image.
    """

    nu: float = REGION_NU
    same_region: float = SAME_REGION
    evidence: float = EVIDENCE


DEFAULT_RULES = Rules()


@dataclass(frozen=True)
class Evidence:
    """What is known of one misclassified image; all in [0, 1].

    Attributes:
        true_score: Of the true class, on the whole image.
        predicted_score: Of the predicted class, on the whole image.
        overlap: Intersection over union of the two classes' regions.
        true_kept: Of the true class, where only its own region is shown.
        predicted_kept: Of the predicted class, there.
    """

    true_score: float
    predicted_score: float
    overlap: float
    true_kept: float
    predicted_kept: float

    @property
    def recovered(self) -> bool:
        """Whether the true class beats the predicted one on the true class's region alone."""
        return self.true_kept > self.predicted_kept


def group_of(found: Evidence, rules: Rules) -> Group:
    """Return the one group of an image: the first of these rules that holds.

    1. The true class finds no evidence, neither in the image nor in its own region: bias.
    2. Both maps name the same region: related.
    3. The true class is recovered by its own region: several.
    4. What remains looks elsewhere and finds too little there: bias.
    """
    if max(found.true_score, found.true_kept) < rules.evidence * found.predicted_score:
        return Group.BIAS
    if found.overlap >= rules.same_region:
        return Group.RELATED
    return Group.SEVERAL if found.recovered else Group.BIAS
