"""Percentages ν as tables, files and pages write them."""

from __future__ import annotations


def nu_key(nu: float) -> str:
    """Return ν as it is written: ``"15"``, ``"12.5"``."""
    return f"{nu:.10g}"
