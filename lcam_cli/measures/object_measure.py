"""What measures that ask where the objects are have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcam_cli.measures.measure import MapMeasure, MapScores

if TYPE_CHECKING:
    from lcam_cli.measures.objects import Objects


class ObjectMeasure(MapMeasure):
    """A measure of where a map lies, against where the objects of its class do.

    It scores no other images. It has no number for an image of whose objects nothing is known.
    """

    lower_is_better = False
    digits = 2
    needs_objects = True
    left_out = "{maps} skipped because no object is known in the part that the network sees"


def objects_of(scores: MapScores) -> Objects:
    """The objects, which a run has wherever a measure asks for them."""
    assert scores.objects is not None, "no run measures this without --boxes or --masks"
    return scores.objects
