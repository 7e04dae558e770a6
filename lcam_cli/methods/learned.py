"""What training leaves, mode by mode: its file's tensors, and the methods that explain with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from lcam_cli.methods.amg import Gates
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.bounded_logit import PositionLogits
from lcam_cli.methods.tame import Tame
from lcam_cli.methods.trained_head import TrainedHead

Learned = Attention | PositionLogits | TrainedHead | Gates | Tame
"""All have ``tensors()``, ``channels`` (K) and ``classes`` (R, or None where they serve any)."""

LCAM_MODES = ("img", "fm")

OF_TENSORS: dict[str, Callable[[Mapping[str, Tensor]], Learned]] = {
    **dict.fromkeys(LCAM_MODES, Attention.of_tensors),
    "bla": partial(PositionLogits.of_tensors, kind="bla"),
    "bla-head": partial(TrainedHead.of_tensors, kind="bla-head"),
    "bla-t-head": partial(TrainedHead.of_tensors, kind="bla-t-head"),
    "l2x-f": partial(PositionLogits.of_tensors, kind="l2x-f"),
    "amg": Gates.of_tensors,
    "tame": Tame.of_tensors,
}
"""What each mode of ``lcam train`` reads from its file; a ValueError says what it needs."""
