"""Every code block of README and docs runs as it stands, page by page, in one folder a page.

What is scaled down is told by the environment, as a user could: small pictures, one epoch. Weights
that torchvision would download lie where it would have put them, and are random.
A comment before a block says where it does not simply run:

- ``file: NAME`` — the block is a file of that name, which later blocks use.
- ``gate`` — the command may say with exit code 1 that a threshold is missed.
- ``elsewhere: TEST`` — that test or script runs it.
- ``not run: REASON``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torchvision.models import AlexNet_Weights

from tests import warm
from tests.conftest import ROOT
from tests.docs.blocks import PAGES, Block, blocks_of

SMALL = {"image-size": "64", "batch-size": "4", "workers": "1"}
SCALED: dict[str, dict[str, str]] = {
    "train": {**SMALL, "max-images": "4", "epochs": "1"},
    "explain": SMALL,
    "compare": {**SMALL, "max-images": "2", "rise-masks": "8"},
    "diagnose": SMALL,
    "evaluate": {"batch-size": "4", "workers": "1"},
}
DOWNLOADS = (
    ("vgg16", torchvision.models.VGG16_Weights.IMAGENET1K_V1),
    ("resnet50", torchvision.models.ResNet50_Weights.IMAGENET1K_V1),
    ("resnet50", torchvision.models.ResNet50_Weights.IMAGENET1K_V2),
    ("mobilenet_v2", torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2),
)
WITH_CODE = [page for page in PAGES if blocks_of(page)]
IN_THE_SUITE = ("README.md", "getting-started.md", "maps-format.md")
"""All pages take ten minutes; with ``LCAM_FULL=1`` they run."""


@pytest.fixture(scope="session")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``mine.pt``, a ResNet-50 of ImageNet's classes, and their ``names.txt``."""
    folder = tmp_path_factory.mktemp("mine")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), folder / "mine.pt")
    attention = {"attnM.op.weight": torch.rand(1000, 512, 1, 1), "attnM.op.bias": torch.rand(1000)}
    torch.save({"state_dict": attention}, folder / "authors.pt")
    (folder / "names.txt").write_text("\n".join(AlexNet_Weights.IMAGENET1K_V1.meta["categories"]))
    return folder


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as torchvision leaves it behind, but for the weights, which are random."""
    folder = tmp_path_factory.mktemp("torch")
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    for name, weights in DOWNLOADS:
        network = torchvision.models.get_model(name, weights=None)
        file = weights.url.rpartition("/")[2]
        torch.save(network.state_dict(), folder / "hub" / "checkpoints" / file)
    return folder


@pytest.fixture
def stage(tmp_path: Path, fine_tuned: Path, downloads: Path) -> Path:
    """A folder such as a reader of the page has: pictures, weights, and commands to type."""
    for name, number in (("photos", 3), ("pictures", 6), ("train", 6), ("val", 1)):
        (tmp_path / name).mkdir()
        for index in range(number):
            colours = torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8).numpy()
            Image.fromarray(colours).save(tmp_path / name / f"{index}.jpg")
    for label in ("pug", "goldfish"):
        (tmp_path / "sorted" / label).mkdir(parents=True)
        (tmp_path / "sorted" / label / "0.jpg").symlink_to(tmp_path / "pictures" / "0.jpg")
    (tmp_path / "labels.txt").write_text("0.jpg pug\n")
    (tmp_path / "torch").symlink_to(downloads)
    for file in fine_tuned.iterdir():
        (tmp_path / file.name).symlink_to(file)
    programs = tmp_path / "bin"
    programs.mkdir()
    commands = {"lcam": warm.words(), "python": [sys.executable], "python3": [sys.executable]}
    for name, words in commands.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (programs / name).chmod(0o755)
    return tmp_path


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
