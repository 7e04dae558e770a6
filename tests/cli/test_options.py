"""The parsers behind the shared options."""

from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.cli.backbone_options import parse_channels, parse_image_size, parse_window
from lcam_cli.cli.measure_options import parse_nus
from lcam_cli.cli.options import auto_or_positive


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


def test_one_number_or_one_a_channel() -> None:
    assert parse_channels("0.485, 0.456,0.406") == (0.485, 0.456, 0.406)
    assert parse_channels("0.5") == 0.5
    assert parse_channels("1,2") == (1, 2)
    for wrong in ("a,b,c", "", "nan", "1,inf"):
        with pytest.raises(typer.BadParameter):
            parse_channels(wrong)


@pytest.mark.parametrize(
    "text", ["180x320", "180X320", "180×320", "180,320", "180 x 320", "180*320px"]
)
def test_sizes_of_two_numbers_are_rows_by_columns(text: str) -> None:
    assert parse_image_size(text) == (180, 320)


def test_sizes_of_squares() -> None:
    assert parse_image_size("224") == parse_image_size(" 224x224 ") == 224
    for wrong in ("", "0", "180x", "x320", "180x320x3", "-5", "1.5", "large", "²"):
        with pytest.raises(typer.BadParameter, match="rows by columns"):
            parse_image_size(wrong)


def test_windows() -> None:
    assert parse_window("auto") == "auto"
    assert parse_window("-1000, 400.5") == (-1000, 400.5)
    for wrong in ("5,5", "6,5", "nan,1", "0,inf", "5", "1,2,3", "all"):
        with pytest.raises(typer.BadParameter):
            parse_window(wrong)
