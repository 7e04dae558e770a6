"""No command goes to the network, unless pretrained weights are to be downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lcam_cli.demo import pictures
from tests.faults.counts import count
from tests.faults.many import Commands
from tests.faults.processes import OWN

_FORBID = """
import socket

def _refuse(*args, **_kwargs):
    with open({marker!r}, "a") as file:
        print(args, file=file)
    raise OSError("this test has no network")

for name in ("connect", "connect_ex", "sendto", "sendmsg"):
    setattr(socket.socket, name, _refuse)
for name in ("create_connection", "getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    setattr(socket, name, _refuse)
"""


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Commands in a process where every try to reach the network fails, and is noted."""
    (tmp_path / "forbid").mkdir()
    module = tmp_path / "forbid" / "sitecustomize.py"
    module.write_text(_FORBID.format(marker=str(tmp_path / "tried")))
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    commands = Commands()
    yield commands
    commands.close()


@pytest.mark.slow
def test_no_command_tries_to_reach_the_network(tmp_path: Path, offline: Commands) -> None:
    pictures.write_pictures(tmp_path / "photos", per_class=1, seed=0)
    (tmp_path / "own.py").write_text(OWN)
    seeded = ["--backbone", "squeezenet1_1", "--weights", "none", "--method", "gradcam"]
    own = ["--backbone", "own.py:net", "--image-size", "32", "--method", "gradcam"]
    for words in (
        ["--help"],
        ["--version"],
        ["explain", "--list-methods"],
        ["train", "photos", "--backbone", "lcam-demo", "--epochs", "1"],
        ["explain", "photos"],
        ["evaluate"],
        ["explain", "photos", "--out", "seeded.h5", *seeded],
        ["evaluate", "seeded.h5"],
        ["explain", "photos", "--out", "own.h5", *own],
        ["compare", "photos", "--methods", "gradcam,lcam", "--max-images", "4"],
        *([["demo"]] * count(0, 1)),
    ):
        ended = offline(tmp_path, words)
        assert ended.code == 0, (words, ended)
    assert not (tmp_path / "tried").exists()
    # The trap works: these weights would have to be downloaded.
    words = [
        "explain",
        "photos",
        "--backbone",
        "squeezenet1_1",
        "--method",
        "gradcam",
        "--overwrite",
    ]
    ended = offline(tmp_path, words)
    assert ended.code == 2
    assert "cannot download the weights" in ended.err
    assert (tmp_path / "tried").exists()
