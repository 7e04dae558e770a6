"""docs/add-a-network-source.md as written: as a package, and in lcam itself."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.networks import registry
from lcam_cli.networks.registry import load_network
from tests.conftest import ROOT
from tests.docs.blocks import blocks_of
from tests.packages import Install
from tests.tiny import write_pictures

BLOCKS = blocks_of(ROOT / "docs" / "add-a-network-source.md")
CODE, PROJECT, COMMANDS, DIFF = (
    next(block.code for block in BLOCKS if block.language == language)
    for language in ("python", "toml", "sh", "diff")
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Install) -> None:
    """The package of the page, where Python finds it, and a folder with images to work in."""
    points = tomllib.loads(PROJECT)["project"]["entry-points"]["lcam.networks"]
    install("lcam_zoo", CODE, points)
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "photos", 2)


@pytest.mark.usefixtures("installed")
def test_the_packages_source_explains_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    explain, evaluate = (line.split()[1:] for line in COMMANDS.splitlines())
    assert run(lcam_app(), [*explain, "--device", "cpu"]) == 0
    with MapsFile(Path("maps.h5")) as maps:
        assert maps.info.backbone == "zoo/narrow"
        assert maps.info.weights == "none:seed=0"
        assert len(maps) == 2
    capsys.readouterr()

    # A file alone does not have a package's code run.
    del sys.modules["lcam_zoo"]
    assert run(lcam_app(), ["evaluate", "maps.h5"]) == 2
    assert "was made with zoo/narrow, which is code" in capsys.readouterr().err
    assert "lcam_zoo" not in sys.modules
    assert run(lcam_app(), [*evaluate, "--nu", "50", "--device", "cpu"]) == 0


@pytest.mark.usefixtures("installed")
def test_weights_come_from_files_and_errors_are_the_sources(tmp_path: Path) -> None:
    first = load_network("zoo/wide", "none", seed=1).module
    torch.save({"model": first.state_dict()}, tmp_path / "wide.pt")
    again = load_network("zoo/wide", "wide.pt")
    assert again.weights.startswith("sha256:")
    assert again.weights_file == str(tmp_path / "wide.pt")
    for name, value in again.module.state_dict().items():
        assert torch.equal(value, first.state_dict()[name])
    assert not again.module.training
    with pytest.raises(LcamError, match="do not fit zoo/narrow"):
        load_network("zoo/narrow", "wide.pt")
    with pytest.raises(LcamError, match="the zoo has no classifier 'zoo/tall'") as caught:
        load_network("zoo/tall")
    assert caught.value.hint == "use one of: zoo/narrow, zoo/wide"
    with pytest.raises(LcamError, match="zoo/narrow has no weights"):
        load_network("zoo/narrow")


def test_in_lcam_itself_it_is_the_file_and_the_lines_of_the_diff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(str(registry.__file__)).read_text()
    for hunk in DIFF.split("@@\n")[1:]:
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if line[0] == " ")
        assert before in own
        own = own.replace(before, "\n".join(line[1:] for line in lines))
    (tmp_path / "zoo.py").write_text(CODE)
    (tmp_path / "registry.py").write_text(own)
    zoo = _module(tmp_path / "zoo.py", "lcam_cli.networks.zoo")
    monkeypatch.setitem(sys.modules, zoo.__name__, zoo)
    changed = _module(tmp_path / "registry.py", "lcam_cli.networks.changed_registry", monkeypatch)
    assert changed.load_network("zoo/narrow", "none").name == "zoo/narrow"
    assert changed.gives_logits("zoo/narrow")
    assert not changed.runs_user_code("zoo/narrow")
    assert len(changed.SOURCES) == len(registry.SOURCES) + 1


def _module(path: Path, name: str, patch: pytest.MonkeyPatch | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if patch is not None:  # its dataclasses look their module up
        patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
