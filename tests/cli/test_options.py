"""The parsers behind the shared options."""

from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.cli.measure_options import parse_nus
from lcam_cli.cli.options import auto_or_positive, parse_triple


def test_nus_repeat_and_list_and_come_once_in_order() -> None:
    assert parse_nus(["100,50", "15", "50.0"]) == (100, 50, 15)
    assert parse_nus(None) == (100, 50, 15)
    assert parse_nus(["12.5, 5"]) == (12.5, 5)


@given(st.lists(st.floats(0, 100, exclude_min=True), min_size=1, unique=True))
def test_any_nus_survive_being_written(nus: list[float]) -> None:
    assert parse_nus([",".join(map(repr, nus))]) == tuple(nus)


@pytest.mark.parametrize("value", ["0", "-1", "100.1", "nan", "inf", "", "50,", "x"])
def test_other_nus_are_refused(value: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_nus([value])


def test_auto_or_a_number() -> None:
    assert auto_or_positive("auto") is None
    assert auto_or_positive("32") == 32


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "", "²", "many"])
def test_other_batch_sizes_are_refused(value: str) -> None:
    with pytest.raises(typer.BadParameter, match="auto"):
        auto_or_positive(value)


def test_triples() -> None:
    assert parse_triple("0.485, 0.456,0.406") == (0.485, 0.456, 0.406)
    for wrong in ("1,2", "1,2,3,4", "a,b,c", ""):
        with pytest.raises(typer.BadParameter):
            parse_triple(wrong)
