"""Which source takes a name, and what a package's source can and cannot do."""

from __future__ import annotations

import sys

import pytest

from lcam_cli.errors import LcamError
from lcam_cli.networks import users_code
from lcam_cli.networks.function import function_network
from lcam_cli.networks.registry import (
    SOURCES,
    find_source,
    load_network,
    names_a_file,
    runs_user_code,
)
from lcam_cli.networks.timm import timm_network
from lcam_cli.networks.torchvision import torchvision_network
from tests.packages import Install

FINE = """
from lcam_cli.networks.network import Network
from torch import nn

def load(name, weights, seed):
    return Network(nn.Conv2d(3, 2, 1), "resnet50", f"none:seed={seed}")
"""
BROKEN = """
def load(name, weights, seed):
    return {}[name]
"""


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("lcam-demo", 0), ("net.pt2", 1), ("net.onnx", 2), ("timm/resnet18", 3),
        ("timm/hf-hub:some/one", 3), ("net.py:build", 4), ("package.module:build", 4),
        ("zoo/net.py:build", 4), ("zoo/net.pt2", 1), ("zoo/net.onnx", 2), ("resnet50", 5),
        ("vit_b_16", 5),
    ],
)  # fmt: skip
def test_every_name_has_its_source_whatever_is_installed(
    name: str, place: int, install: Install
) -> None:
    thief = dict.fromkeys(("timm", "zoo", "lcam-demo", "resnet50", "net.py"), "lcam_thief:load")
    install("lcam_thief", "raise RuntimeError", thief)
    source = find_source(name)
    assert source is SOURCES[place]
    assert runs_user_code(name) == (place == 4)
    loads = (None, None, None, timm_network, function_network, torchvision_network)
    assert source.load is loads[place] or place < 3
    assert "lcam_thief" not in sys.modules


def test_a_packages_source_is_run_only_to_load_and_cannot_pass_for_another(
    install: Install,
) -> None:
    install("lcam_fine", FINE, {"fine": "lcam_fine:load"})
    assert runs_user_code("fine/a")
    assert not runs_user_code("fine")
    assert not runs_user_code("other/a")
    with pytest.raises(LcamError, match="unknown backbone 'other/a'") as unknown:
        load_network("other/a")
    assert (
        "convnext_tiny. You can also pass timm/NAME, hf/NAME, fine/NAME, a Hugging Face folder, "
        "FILE.onnx, FILE.pt2, file.py:function" in unknown.value.hint
    )
    assert "lcam_fine" not in sys.modules
    network = load_network("fine/a", "none:seed=4")
    assert (network.name, network.weights) == ("fine/a", "none:seed=4")


def test_what_fails_in_a_package_is_reported_as_its_own(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_code, "_roots", {})
    points = {"broken": "lcam_broken:load", "none": "lcam_broken:nothing"}
    install("lcam_broken", BROKEN, points)
    install("lcam_text", "load = lambda *_: 'a'", {"text": "lcam_text:load"})
    with pytest.raises(LcamError, match=r"^broken/a raised KeyError: 'broken/a' \(.*, line 3\)"):
        load_network("broken/a")
    with pytest.raises(LcamError, match=r"network source 'none' \(.*does not load: AttributeErr"):
        load_network("none/a")
    with pytest.raises(LcamError, match=r"network source 'text' .* returned a"):
        load_network("text/a")


def test_two_packages_of_one_name_are_refused(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("lcam_one", "lcam_two"):
        install(module, FINE, {"same": f"{module}:load"})
    with pytest.raises(LcamError, match="several packages: lcam_one:load, lcam_two:load"):
        load_network("same/a")


def test_which_names_are_paths() -> None:
    for name in ("net.onnx", "a/net.pt2", "net.py:build", "a/folder/that/is/not/here"):
        assert names_a_file(name)
    for name in ("resnet18", "timm/resnet18", "hf/org/name", "lcam-demo"):
        assert not names_a_file(name)
