"""A command that is told nothing asks for what its function does by default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from lcam_cli import CompareOptions, DiagnoseOptions, EvaluateOptions, SanityOptions
from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app


@pytest.mark.parametrize(
    ("words", "function", "options"),
    [
        (["compare", "photos"], "lcam_cli.cli.compare.compare_folder", CompareOptions()),
        (["sanity", "photos"], "lcam_cli.cli.sanity.sanity_check", SanityOptions()),
        (["evaluate", "maps.h5"], "lcam_cli.cli.evaluate.evaluate_maps", EvaluateOptions()),
        (
            ["diagnose", "photos", "--labels", "folders"],
            "lcam_cli.cli.diagnose.diagnose_folder",
            DiagnoseOptions(),
        ),
    ],
)
def test_defaults_are_the_functions(
    words: list[str],
    function: str,
    options: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def note(*given: Any, **_: Any) -> None:
        asked.append(given[-1])
        raise typer.Exit(0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(function, note)
    assert run(lcam_app(), words) == 0
    (found,) = asked
    if hasattr(found, "pictures"):  # a person has typed them
        found = replace(found, pictures=options.pictures)
    assert found == options
