"""The page on measures has every measure, with the direction that the code has."""

from __future__ import annotations

import re

import pytest

from lcam_cli.measures.registry import MEASURES
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_has_its_paragraph(name: str) -> None:
    (found,) = re.findall(rf"^\*\*`{name}`(.*?)\n\n(.*?)\n\n", PAGE, re.M | re.S)
    question, formula = found
    measure = MEASURES[name]
    better = "Low" if measure.lower_is_better else "High"
    assert question.endswith(f"? {better} is better."), question
    authors = measure.source.partition(" ")[0]
    assert authors in formula, f"{name} lacks its source, {measure.source}"
