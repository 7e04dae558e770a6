"""Methods that other packages bring: the example of docs/plugins.md, and what can be wrong."""

from __future__ import annotations

import logging
import re
import tomllib
from pathlib import Path

import pytest
import torch
from pytorch_grad_cam import HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.registry import METHODS, find_method, known_methods, make_method
from tests.conftest import ROOT
from tests.packages import Install
from tests.tiny import tiny_backbone, write_pictures


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ran before may have kept the log to itself."""
    monkeypatch.setattr(logging.getLogger("lcam"), "propagate", True)


def documented(what: str) -> str:
    """A code block of docs/plugins.md."""
    text = (ROOT / "docs" / "plugins.md").read_text()
    found = re.search(rf"<!-- {what} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, what
    return found[1]


def test_the_documented_example_works_as_written(
    install: Install,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = documented("file: lcam_gc_hirescam.py")
    assert len(code.splitlines()) <= 30
    points = tomllib.loads(documented("file: pyproject.toml"))["project"]["entry-points"]
    install("lcam_gc_hirescam", code, points["lcam.methods"])

    assert run(lcam_app(), ["explain", "--list-methods"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert next(line for line in listed if line.startswith("gc-hirescam ")).endswith(
        "(Draelos 2020)"
    )

    monkeypatch.chdir(tmp_path)
    network = "from tests.tiny import tiny_network\nnet = tiny_network\n"
    (tmp_path / "own.py").write_text(network)
    write_pictures(tmp_path / "photos", 3)
    words = "explain photos --method gc-hirescam --backbone own.py:net --image-size 32 --layer 3"
    assert run(lcam_app(), [*words.split(), "--map-dtype", "float32", "--device", "cpu"]) == 0
    with MapsFile(Path("maps.h5")) as maps:
        assert maps.info.method == "gc-hirescam"
        assert len(maps) == 3
        assert maps.info.aligned is False, "it draws them itself, and says so"
        assert maps.info.tiled is None, "not for --no-align, nor for want of a grid"

    # The same maps as the package's own call gives.
    engine = Engine(tiny_backbone(), device="cpu")
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 3, 1])
    ours = make_method("gc-hirescam", engine.backbone)(engine, engine.forward(x), classes)
    module = engine.backbone.network
    with HiResCAM(module, [module.get_submodule("3")]) as theirs:
        targets = [ClassifierOutputTarget(int(y)) for y in classes]
        expected = theirs(engine.normalise(x).requires_grad_(), targets)
    torch.testing.assert_close(ours.saliency, torch.from_numpy(expected))


def test_a_plug_in_that_fails_is_named_in_one_line_and_left_out(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("lcam_broken", "raise RuntimeError('two\\nlines')", {"broken": "lcam_broken:make"})
    install("lcam_number", "make = 7", {"number": "lcam_number:make"})
    install("lcam_fine", "make = print", {"fine": "lcam_fine:make"})
    with caplog.at_level(logging.WARNING, "lcam"):
        assert list(known_methods()) == [*METHODS, "fine"]
    broken, number = (record.getMessage() for record in caplog.records)
    assert broken.startswith("the plug-in method 'broken' (lcam_broken:make) does not load")
    assert "RuntimeError: two" in broken
    assert "\n" not in broken
    assert "lcam_number:make is not a function" in number


def test_one_that_fails_does_not_disturb_the_others(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("lcam_broken", "import nothing_of_that_name", {"broken": "lcam_broken:make"})
    install("lcam_fine", "make = print", {"fine": "lcam_fine:make"})
    assert find_method("fine").make is print
    assert isinstance(make_method("gradcam", tiny_backbone()), GradCam)
    assert not caplog.records, "what nobody asked for is not imported"
    with pytest.raises(LcamError, match=r"'broken'.*ModuleNotFoundError"):
        find_method("broken")
    with pytest.raises(LcamError, match="unknown method 'fin'") as unknown:
        find_method("fin")
    assert "did you mean fine" in unknown.value.hint


def test_names_of_our_own_stay_ours(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("lcam_thief", "make = print", {"gradcam": "lcam_thief:make", "lcam": "lcam_thief:make"})
    with caplog.at_level(logging.WARNING, "lcam"):
        assert known_methods() == METHODS
    assert len(caplog.records) == 2
    assert isinstance(make_method("gradcam", tiny_backbone()), GradCam)
