"""Every code block of README and docs runs as it stands, page by page, in one folder a page.

What is scaled down is told by the environment, as a user could: small images, one epoch. Weights
that torchvision would download lie where it would have put them, and are random.
A comment before a block says where it does not simply run:

- ``file: NAME`` — the block is a file of that name, which later blocks use.
- ``gate`` — the command may say with exit code 1 that a threshold is missed.
- ``elsewhere: TEST`` — that test or script runs it.
- ``not run: REASON``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.blocks import PAGES, Block, blocks_of

SMALL = {"image-size": "64", "batch-size": "4", "workers": "1"}
SCALED: dict[str, dict[str, str]] = {
    "train": {**SMALL, "max-images": "4", "epochs": "1"},
    "explain": SMALL,
    "compare": {**SMALL, "max-images": "2", "rise-masks": "8"},
    "methods": {"image-size": "64", "batch-size": "4"},
    "sanity": {**SMALL, "max-images": "2", "stages": "2"},
    "diagnose": SMALL,
    "evaluate": {"batch-size": "4", "workers": "1"},
}
WITH_CODE = [page for page in PAGES if blocks_of(page)]
IN_THE_SUITE = ("README.md", "getting-started.md", "maps-format.md")
"""All pages take ten minutes; with ``LCAM_FULL=1`` they run."""


def settings(stage: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LCAM_")}
    scaled = {
        f"LCAM_{command}_{key}".upper().replace("-", "_"): value
        for command, options in SCALED.items()
        for key, value in options.items()
    }
    path = os.pathsep.join([str(stage / "bin"), os.environ["PATH"]])
    places = {"PYTHONPATH": str(ROOT), "PATH": path, "TORCH_HOME": str(stage / "torch")}
    return {**kept, **scaled, **places}


def run_shell(block: Block, stage: Path) -> None:
    ended(block, stage, ["bash", "-e", "-u", "-o", "pipefail", "-c", block.code])


def run_python(block: Block, stage: Path) -> None:
    ended(block, stage, [sys.executable, "-c", block.code])


def read_json(block: Block, stage: Path) -> None:
    ended(block, stage, [sys.executable, "-m", "json.tool"])


def read_toml(block: Block, stage: Path) -> None:
    ended(
        block, stage, [sys.executable, "-c", "import sys, tomllib; tomllib.load(sys.stdin.buffer)"]
    )


def read_yaml(block: Block, stage: Path) -> None:
    ended(block, stage, [sys.executable, "-c", "import sys, yaml; yaml.safe_load(sys.stdin)"])


def ended(block: Block, stage: Path, command: list[str]) -> None:
    done = subprocess.run(
        command, cwd=stage, env=settings(stage), input=block.code,
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    allowed = (0, 1) if block.note == "gate" else (0,)
    assert done.returncode in allowed, f"{block}:\n{block.code}\n{done.stdout}\n{done.stderr}"


RUN: dict[str, Callable[[Block, Path], None]] = {
    "sh": run_shell,
    "python": run_python,
    "toml": read_toml,
    "yaml": read_yaml,
    "json": read_json,
}


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_every_block_runs(page: Path, stage: Path) -> None:
    if page.name not in IN_THE_SUITE and not os.environ.get("LCAM_FULL"):
        pytest.skip("set LCAM_FULL=1 to run it")
    for block in blocks_of(page):
        kind, _, rest = block.note.partition(": ")
        if kind in ("elsewhere", "not run"):
            continue
        if kind == "file":
            (stage / rest).parent.mkdir(parents=True, exist_ok=True)
            (stage / rest).write_text(block.code)
        if kind != "file" or block.language in ("toml", "yaml"):
            RUN[block.language](block, stage)


def test_what_does_not_run_says_why() -> None:
    for page in WITH_CODE:
        for block in blocks_of(page):
            kind, _, rest = block.note.partition(": ")
            assert kind in ("", "file", "gate", "elsewhere", "not run"), block
            assert rest or kind in ("", "gate"), block
            if kind == "elsewhere":
                assert (ROOT / rest.split(",")[0]).is_file(), block
            if kind == "":
                assert block.language in RUN, block
