"""The methods that an attention file brings along, by the names users type."""

from __future__ import annotations

from typing import Any

from lcam_cli.methods.amg import Amg, Gates
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.attention_file import AttentionFile
from lcam_cli.methods.base import Method
from lcam_cli.methods.bounded_logit import Bla, HardPositions, PositionLogits
from lcam_cli.methods.lcam import LCam, mode_name, params_of
from lcam_cli.methods.learned import Learned
from lcam_cli.methods.tame import Tame, TameMethod
from lcam_cli.methods.trained_head import TrainedHead

LCAM = "lcam"

SUMMARIES = {
    LCAM: "the trained attention of this project's run (Gkartzonika 2022)",
    "bla": "soft weights of the positions the head needs; --mode bla (Baumhauer 2021)",
    "bla-hard": "from a run of bla: only the chosen positions, their number depending on the image",
    "bla-head": "BLA in a classifier whose head is trained too; --mode bla --train-head",
    "bla-head-hard": "from a run of bla-head: only the chosen positions",
    "bla-t-head": "bla-head with BLA-T's threshold; --mode bla-t --train-head",
    "bla-t-head-hard": "from a run of bla-t-head: only the chosen positions",
    "l2x-f": "8 positions learned by sampling; --mode l2x-f (Baumhauer 2021)",
    "amg": "Grad-CAM through two gates; --mode amg (An & Joe 2022)",
    "tame": "several layers fused; --mode tame (Ntrougkas 2022)",
}
"""The lines of ``--list-methods`` for what is trained."""


COSTS = {"amg": "1 + backward"}
"""What their maps cost in forward passes, where that is not one."""


def is_trained(name: str) -> bool:
    """Whether a method of that name comes from an attention file: those above, ``lcam-img`` …."""
    return name.partition(" ")[0] in SUMMARIES or name.startswith(f"{LCAM}-")


def names_of(file: AttentionFile) -> list[str]:
    """What a file's methods are called, its own first."""
    if isinstance(file.attention, Attention):
        return [mode_name(file)]
    if isinstance(file.attention, Gates):
        return ["amg"]
    if isinstance(file.attention, Tame):
        return ["tame"]
    kind = _position_logits(file.attention).kind
    return [kind] if kind == "l2x-f" else [kind, f"{kind}-hard"]


def _position_logits(learned: PositionLogits | TrainedHead) -> PositionLogits:
    return learned.logits if isinstance(learned, TrainedHead) else learned


def fits_name(row: str, name: str) -> bool:
    """Whether ``name`` means a row: by its method, with its run, or ``lcam`` for both modes."""
    return name in (row, row.partition(" ")[0]) or (name == LCAM and row.startswith(LCAM))


def method_of(file: AttentionFile, name: str) -> Method:
    """Make one of :func:`names_of`."""
    return method_of_learned(file.attention, name, params_of(file))


def method_of_learned(learned: Learned, name: str, params: dict[str, Any]) -> Method:
    """Make a method of what was learned, which may be in no file yet.

    Args:
        learned: The attention.
        name: What it is called.
        params: For the record in maps files; TAME's ``training`` names its layers.
    """
    if isinstance(learned, Attention):
        return LCam(learned, name, params)
    if isinstance(learned, Gates):
        return Amg(learned, params)
    if isinstance(learned, Tame):
        return TameMethod(learned, params)
    logits = _position_logits(learned)
    soft = name == logits.kind != "l2x-f"
    return Bla(logits, params) if soft else HardPositions(logits, params)
