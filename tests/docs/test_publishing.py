"""The workflow that publishes and the container name what is there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import yaml

from tests.conftest import ROOT

CI = ROOT / ".ci"


def test_the_workflow_publishes_what_it_has_built_and_tried() -> None:
    workflow = yaml.safe_load((CI / "publish.yml").read_text())
    jobs = workflow["jobs"]
    assert jobs["publish"]["needs"] == "build"
    commands = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert any("twine check" in one for one in commands)
    assert any("lcam demo" in one for one in commands)


def test_the_version_is_read_as_the_workflow_reads_it() -> None:
    line = next(one for one in (CI / "publish.yml").read_text().splitlines() if "exec(open" in one)
    code = re.search(r"python -c '(.*)'\)", line)
    assert code is not None
    done = subprocess.run(
        ["python3", "-c", code[1]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", done.stdout)


def test_the_containers_check_says_why_it_cannot_run(tmp_path: Path) -> None:
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\nexit 1\n")
    podman.chmod(0o755)
    done = subprocess.run(
        [CI / "container-smoke"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 77
    assert "cannot build here" in done.stderr
