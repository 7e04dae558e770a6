"""What the command does not wait for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_RUN = """
import atexit, sys
sys.argv[0] = "lcam"
atexit.register(lambda: print("loaded", *sys.modules, file=sys.stderr))
from lcam_cli.__main__ import main
main()
"""
_TORCH = {"torch", "torchvision"}
_OF_OTHERS = {"timm", "transformers", "onnxruntime", "matplotlib", "pydicom", "pandas", "scipy"}


def _loaded(folder: Path, *words: str) -> tuple[int, str, set[str]]:
    """Exit code, what was said on stderr, and the modules that the command imported."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    said, _, modules = done.stderr.rpartition("loaded ")
    return done.returncode, said, set(modules.split())


@pytest.mark.parametrize("words", [("--help",), ("explain", "--help"), ("train", "--help")])
def test_help_waits_for_no_torch(words: tuple[str, ...], tmp_path: Path) -> None:
    code, _, modules = _loaded(tmp_path, *words)
    assert code == 0
    assert not modules & (_TORCH | _OF_OTHERS)


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "--method", "gradcam"),
        ("train",),
        ("compare",),
        ("diagnose", "--labels", "folders"),
    ],
)
def test_an_input_that_is_not_there_is_said_before_torch_is_imported(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*command, "nowhere.jpg", "--backbone", "resnet18", "--weights", "none")
    code, said, modules = _loaded(tmp_path, *words)
    assert code == 2
    assert "cannot open nowhere.jpg" in said
    assert not modules & _TORCH


def test_explaining_a_network_of_torchvisions_imports_no_other_source(tmp_path: Path) -> None:
    from tests.tiny import write_pictures

    write_pictures(tmp_path, 1)
    words = ("explain", str(tmp_path), "--method", "gradcam", "--image-size", "64")
    network = ("--backbone", "mobilenet_v3_small", "--weights", "none")
    code, said, modules = _loaded(tmp_path, *words, *network)
    assert code == 0, said
    assert "torch" in modules
    assert not modules & _OF_OTHERS
