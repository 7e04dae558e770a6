"""benchmarks/gpu.sh runs to its end, on a CPU here: a GPU that is lent for minutes must not find a
mistake in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_script_prints_every_table() -> None:
    small = ("--networks", "squeezenet1_1", "--seconds", "0.01", "--rounds", "2")
    done = subprocess.run(
        ["bash", "benchmarks/gpu.sh", "--device", "cpu", *small, "--images", "4"],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stdout + done.stderr
    table = (ROOT / "benchmarks" / "gpu.py").read_text()
    titles = re.findall(r'^    "([^"]+)": \w+,$', table, re.MULTILINE)
    sections = done.stdout.split("\n## ")
    assert len(titles) > 3
    assert [section.partition("\n")[0] for section in sections[1:]] == titles
    without_network = ("Memory", "Reading")  # a GPU alone counts memory
    for section in sections[1:]:
        if not section.startswith(without_network):
            assert "| squeezenet1_1 |" in section
    assert " passed" in sections[0]
    assert "failed" not in sections[0]
