"""What is wrong with names and files is reported before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from lcam_cli.cli.app import lcam_app
from lcam_cli.cli.run import run
code = run(lcam_app(), sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("explain a.png --backbone resnet5", "did you mean resnet50"),
        ("explain a.png --backbone resnet18 --method gradcm", "did you mean gradcam"),
        ("explain a.png --backbone no.pt", "no such file: no.pt"),
        ("explain a.png --backbone no.py:build", "no such file: no.py"),
        ("explain a.png --backbone net.py", "--backbone net.py:build"),
        ("explain a.png --backbone resnet18 --weights no.pth", "no such file: no.pth"),
        ("compare a.png --backbone resnet18 --methods cam,pixels", "did you mean pixel"),
        ("sanity a.png --backbone resnet18 --methods cm", "unknown method 'cm'"),
        ("diagnose a.png --labels folders --second-method cm", "unknown method 'cm'"),
        ("train a.png --backbone no.onnx", "no such file: no.onnx"),
        ("methods --backbone vgg1", "did you mean vgg1"),
        ("evaluate no.h5", "no maps file no.h5"),
        ("info no.h5", "cannot read no.h5"),
    ],
)
def test_it_is_told_without_torch(tmp_path: Path, words: str, told: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "net.py").write_text("def build(): ...")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_names_that_only_a_source_knows_are_left_to_it() -> None:
    from lcam_cli.runs.early import check_backbone_there

    for name in ("resnet18", "lcam-demo-vit", "timm/a.pt", "hf/x/y.bin", "pack.age:net", None):
        check_backbone_there(name, None)
