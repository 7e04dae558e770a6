"""The commands of the example pipelines run, in their order."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.docs.blocks import blocks_of
from tests.docs.test_code_blocks import settings

BASELINE = "lcam evaluate maps.h5 --nu 50,15 --out baseline.json --per-image baseline.csv"


def commands_of(pipeline: dict[str, Any]) -> list[str]:
    """The ``lcam`` commands of a GitHub workflow or a GitLab job."""
    if "jobs" in pipeline:
        said = [step.get("run", "") for step in pipeline["jobs"]["gate"]["steps"]]
    else:
        said = pipeline["explanations"]["script"]
    return [command for command in said if command.startswith("lcam ")]


@pytest.mark.slow
def test_the_commands_of_the_example_pipelines_run(stage: Path) -> None:
    pipelines = [b for b in blocks_of(ROOT / "docs" / "pipelines.md") if b.language == "yaml"]
    assert len(pipelines) == 2
    for block in pipelines:
        commands = commands_of(yaml.safe_load(block.code))
        assert len(commands) == 2
        commands.insert(1, BASELINE)
        for command in commands:
            # Random weights may miss the gate; nothing else may go wrong.
            done = subprocess.run(
                shlex.split(f"{command} --overwrite"),
                cwd=stage,
                env=settings(stage),
                check=False,
                capture_output=True,
                text=True,
            )
            assert done.returncode in (0, 1), done.stderr
        written = list(stage.glob("measures.*"))
        assert written
        for file in written:
            assert file.stat().st_size > 0
            file.unlink()
