"""The shell asks what could be typed next."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lcam_cli.cli.completion import torchvision_names
from lcam_cli.methods.names import METHOD_NAMES
from tests.conftest import ROOT


def asked(**how: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LCAM_")}
    return subprocess.run(
        [sys.executable, "-m", "lcam_cli"],
        env={**kept, "PYTHONPATH": str(ROOT), **how},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "word", "offered"),
    [("lcam e", "1", ["explain", "evaluate"]), ("lcam explain --overl", "2", ["--overlays"])],
)
def test_bash_is_told_commands_and_options(typed: str, word: str, offered: list[str]) -> None:
    told = asked(_LCAM_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=word).split()
    assert set(offered) <= set(told)
    assert "train" not in told


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("lcam explain --method gradcam", ["gradcam", "gradcam++"]),
        ("lcam explain --backbone mobilenet_v", ["mobilenet_v2", "mobilenet_v3_small"]),
        ("lcam explain --colormap vir", ["viridis"]),
        ("lcam compare --methods gradcam,pix", ["gradcam,pixel"]),
        ("lcam compare --methods gradcam,gradcam", ["gradcam,gradcam++"]),
        ("lcam evaluate --metrics ad,inser", ["ad,insertion"]),
        ("lcam explain --backbone squeezenet1_0 --layer features.1", ["features.1", "features.12"]),
        ("lcam explain --layer features.1", []),
        ("lcam explain --fit sq", ["squash"]),
    ],
)
def test_bash_is_told_values(typed: str, offered: list[str]) -> None:
    last = str(len(typed.split()) - 1)
    told = asked(_LCAM_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=last).split()
    assert set(offered) <= set(told)
    word = typed.rsplit(maxsplit=1)[-1]
    assert all(one.startswith(word) for one in told)
    assert bool(told) == bool(offered)


def test_names_told_without_torch_are_those_with_it() -> None:
    from lcam_cli.methods.registry import METHODS
    from lcam_cli.methods.trained import SUMMARIES
    from lcam_cli.networks.torchvision import torchvision_classifiers

    assert sorted(METHOD_NAMES) == sorted([*METHODS, *SUMMARIES])
    assert torchvision_names() == sorted(torchvision_classifiers())


def test_a_named_method_is_offered_without_torch() -> None:
    code = (
        "import sys, lcam_cli.cli.completion as c; assert c.method(None, 'rise') == ['rise'];"
        "assert 'resnet50' in c.backbone(None, 'resnet'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


def test_the_script_for_a_shell_is_shown() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lcam_cli", "--show-completion", "bash"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",  # typer's own, for its tests
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "_LCAM_COMPLETE=complete_bash" in done.stdout
