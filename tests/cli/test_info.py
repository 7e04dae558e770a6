"""``lcam info``: what is installed, what files hold, and that nothing in them runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.attention_file import FILE_NAME, AttentionSettings, save_attention
from lcam_cli.version import __version__
from tests.cli import job
from tests.cli.job import Lcam
from tests.tiny import tiny_backbone

OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
"""
SETTINGS = '[defaults]\nbackbone = "own.py:net"\nimage-size = 32\n'

lcam = job.lcam


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    job.begin(tmp_path, monkeypatch, OWN, 3)
    (tmp_path / "lcam.toml").write_text(SETTINGS)
    return tmp_path


def facts(lcam: Lcam, *words: str | Path) -> dict[str, Any]:
    done = lcam("info", *words, "--format", "json")
    assert done.code == 0, done.err
    content: dict[str, Any] = json.loads(done.out)
    return content


def test_the_installation_is_described(folder: Path, lcam: Lcam) -> None:
    found = facts(lcam)
    assert found["lcam"] == __version__
    assert found["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert found["devices"][0].startswith("cpu (")
    assert f"lcam: {__version__}\n" in lcam("info").out


def test_a_maps_file_says_whose_maps_it_holds(folder: Path, lcam: Lcam) -> None:
    assert lcam("explain", "photos", "--method", "gradcam").code == 0
    found = facts(lcam, "maps.h5")
    assert (found["kind"], found["maps"], found["complete"]) == ("maps", 3, True)
    assert (found["method"], found["backbone"]) == ("gradcam", "own.py:net")
    assert found["size"] == [32, 32]
    assert "method: gradcam\n" in lcam("info", "maps.h5").out
    (folder / "bad.h5").write_bytes((folder / "maps.h5").read_bytes()[:3000])
    assert lcam("info", "bad.h5").code == 2


def test_a_file_of_several_methods_names_them(folder: Path, lcam: Lcam) -> None:
    words = ("--methods", "gradcam,gradcam++", "--out", "all.h5")
    assert lcam("compare", "photos", *words).code == 0
    done = lcam("info", "all.h5")
    assert done.code == 2
    assert "pass --method with one of: gradcam, gradcam++" in done.err
    assert facts(lcam, "all.h5", "--method", "gradcam++")["method"] == "gradcam++"


def test_a_run_says_what_its_attention_was_trained_for(folder: Path, lcam: Lcam) -> None:
    backbone = Engine(tiny_backbone(), device="cpu").backbone
    R, K = backbone.num_classes, backbone.feature_shape[0]
    names = [f"\x1b[31m{k}" for k in range(R)]
    settings = AttentionSettings(
        backbone.identity, names, backbone.preprocess, {"mode": "img", "epochs": 3}
    )
    (folder / "run").mkdir()
    save_attention(
        folder / "run" / FILE_NAME, Attention(torch.zeros(R, K), torch.zeros(R)), settings
    )
    found = facts(lcam, "run")
    assert (found["kind"], found["classes"], found["channels"]) == ("attention", R, K)
    assert found["training"]["epochs"] == 3
    assert found["layer"] == backbone.identity.layer
    assert "\x1b" not in lcam("info", "run").out


def test_a_checkpoint_lists_its_tensors(folder: Path, lcam: Lcam) -> None:
    tensors = {"a.weight": torch.zeros(3, 4), "a.\x1bbias": torch.zeros(3, dtype=torch.float16)}
    torch.save({"state_dict": tensors, "epoch": 3}, folder / "c.pt")
    found = facts(lcam, "c.pt")
    assert (found["kind"], found["state dict in"]) == ("checkpoint", "state_dict")
    assert (found["tensors"], found["values"]) == (2, 15)
    assert found["types"] == ["float16", "float32"]
    assert found["first"]["a.weight"] == [3, 4]
    assert found["other entries"] == ["epoch"]
    assert "\x1b" not in lcam("info", "c.pt").out


class Hostile:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_nothing_in_a_file_is_executed(folder: Path, lcam: Lcam, how: str) -> None:
    if how == "pickle":
        (folder / "c.pt").write_bytes(pickle.dumps({"state_dict": Hostile()}))
    else:
        torch.save({"state_dict": Hostile()}, folder / "c.pt")
    lcam("info", "c.pt")
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing.h5",), "cannot read nothing.h5"),
        (("own.py",), "own.py"),
        (("photos",), "cannot read photos"),
        (("own.py", "--method", "cam"), "is not a maps file"),
        (("--method", "cam"), "--method names the maps of a file"),
    ],
)
def test_wrong_usage_is_told(folder: Path, lcam: Lcam, words: tuple[str, ...], told: str) -> None:
    done = lcam("info", *words)
    assert done.code == 2
    assert done.out == ""
    assert told in done.err
    assert len(done.err.splitlines()) == 2
