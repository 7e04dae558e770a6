"""Hints for options that have another name elsewhere."""

from __future__ import annotations

import pytest

from lcam_cli.cli.app import lcam_app
from lcam_cli.cli.run import run


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["evaluate", "--json"], "did you mean --format json?"),
        (["explain", "--model", "resnet50"], "did you mean --backbone?"),
        (["explain", "--checkpoint", "x.pt"], "did you mean --weights?"),
        (["explain", "--gpu"], "did you mean --device cuda?"),
        (["explain", "--images", "x"], "did you mean IMAGES, without an option before it?"),
        (["train", "--epohcs", "3"], "did you mean --epochs?"),
        (["explain", "--no-captoin"], "did you mean --no-caption?"),
    ],
)
def test_options_of_other_tools_are_understood(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lcam_app(), words) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("words", [["explain", "--json"], ["explain", "--zzz"]])
def test_what_has_no_counterpart_gets_no_wrong_hint(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lcam_app(), words) == 2
    assert "did you mean" not in capsys.readouterr().err
