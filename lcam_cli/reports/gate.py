"""A number of a result, held against a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lcam_cli.reports.nu_key import nu_key


@dataclass(frozen=True)
class Gate:
    """One number of one method, held against a threshold.

    Attributes:
        name: ``"max-ad"``, ``"min-ic"`` or ``"worse-than"``, as the option is called.
        method: Whose number it is.
        measure: ``"ad"`` or ``"ic"``.
        nu: Its percentage ν.
        value: The number, in percent; None where it is not defined, which misses any threshold.
        bound: The threshold, in percent, or in percentage points for ``"worse-than"``.
        passed: Whether the threshold is met.
        words: One line that says by how much it is missed; empty where it is met.
        more: What else its JSON has, by key.
    """

    name: str
    method: str
    measure: str
    nu: float
    value: float | None
    bound: float
    passed: bool
    words: str = ""
    more: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; numbers have four decimals."""
        return {
            "gate": self.name,
            "method": self.method,
            "measure": self.measure,
            "nu": nu_key(self.nu),
            "value": None if self.value is None else round(self.value, 4),
            "bound": self.bound,
            "passed": self.passed,
            **(self.more or {}),
        }
