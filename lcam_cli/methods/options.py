"""What users can set about methods."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MethodOptions:
    """Settings that every method is made with; each takes what concerns it.

    Attributes:
        seed: Of whatever a method draws.
        rise_masks: N of RISE; None: the paper's, 4000 for VGG networks and 8000 for others.
        rise_cells: Cells along each side of RISE's masks.
        rise_p: The chance that a cell is kept, in (0, 1).
    """

    seed: int = 0
    rise_masks: int | None = None
    rise_cells: int = 7
    rise_p: float = 0.5
