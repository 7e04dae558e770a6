"""Weights, attentions and training checkpoints from strangers: read safely or refused in a line."""

from __future__ import annotations

import functools
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lcam_cli.engine.engine import Engine
from lcam_cli.training.checkpoint import CHECKPOINT
from tests.faults.counts import count
from tests.faults.damage import damaged
from tests.faults.many import Commands, Ended
from tests.tiny import tiny_network, write_pictures

COUNT = count(24, 200)
OWN = "from tests.tiny import tiny_network as net\n"
NETWORK = ["--backbone", "own.py:net", "--image-size", "32", "--device", "cpu", "--workers", "1"]
TRAIN = ["train", "photos", *NETWORK, "--weights", "none", "--epochs", "2", "--out", "run"]
EXPLAIN = ["explain", "photos", "--overwrite"]


class Attack:
    """What unpickles as a call of ``os.system``."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._target}",)


def with_weights(file: str) -> list[str]:
    return [*EXPLAIN, *NETWORK, "--method", "gradcam", "--weights", file]


def with_attention(file: str) -> list[str]:
    # An attention file of ours knows its backbone; the authors' do not.
    own = NETWORK if file.endswith(".pt") else ["--backbone", "own.py:net"]
    return [*EXPLAIN, *own, "--attention", file]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lcam: Commands) -> Path:
    tmp_path = tmp_path_factory.mktemp("checkpoints")
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", 4)
    trained = lcam(tmp_path, TRAIN)
    assert trained.code == 0, trained.err
    return tmp_path


def assert_told_in_lines(ended: Ended) -> None:
    assert ended.code in (0, 2), ended
    assert "Traceback" not in ended.err, ended
    assert "internal error" not in ended.err, ended
    if ended.code == 2:
        error = ended.err[ended.err.index("error: ") :]
        assert len(error.splitlines()) <= 2, ended
        assert len(error) < 1500, ended


def _commands_by_kind(folder: Path) -> dict[str, tuple[bytes, Callable[[str], list[str]]]]:
    """Good files of every kind that is read, and the command that reads them."""
    state = tiny_network().state_dict()
    theirs = {"attnM.op.weight": torch.rand(4, 6, 1, 1), "attnM.op.bias": torch.rand(4)}
    files: dict[str, Callable[[Path], object]] = {
        "zip.pt": functools.partial(torch.save, state),
        "old.pt": functools.partial(torch.save, state, _use_new_zipfile_serialization=False),
        "nested.pth": functools.partial(torch.save, {"state_dict": state, "epoch": 3}),
        "w.safetensors": functools.partial(save_file, state),
    }
    kinds = {}
    for name, write in files.items():
        write(folder / name)
        kinds[name] = ((folder / name).read_bytes(), with_weights)
    torch.save({"state_dict": theirs}, folder / "authors.pt")
    kinds["authors.pt"] = ((folder / "authors.pt").read_bytes(), with_attention)
    ours = folder / "run" / "attention.safetensors"
    (folder / ours.name).write_bytes(ours.read_bytes())
    kinds[ours.name] = (ours.read_bytes(), with_attention)
    return kinds


@pytest.mark.slow
def test_damaged_files_load_or_are_refused_in_a_line(folder: Path, lcam: Commands) -> None:
    kinds = _commands_by_kind(folder)
    rng = random.Random(0)
    blobs = [blob for blob, _ in kinds.values()]
    commands = [command(name) for name, (_, command) in kinds.items()]
    for k in range(COUNT):
        kind = sorted(kinds)[k % len(kinds)]
        blob, command = kinds[kind]
        file = f"{k}-{kind}"
        others = [blob, blob, blob, rng.choice(blobs)]
        (folder / file).write_bytes(damaged(rng, others, (6, 4)))
        commands.append(command(file))
    ended = [lcam(folder, words) for words in commands]
    for good in ended[: len(kinds)]:
        assert good.code == 0, good.err
    for one in ended:
        assert_told_in_lines(one)
    refused = sum(e.code == 2 for e in ended)
    print(f"{refused} of {COUNT} refused, {len(ended) - len(kinds) - refused} still good; at most")
    good_memory, memory = ended[len(kinds) - 1].memory, max(e.memory for e in ended)
    print(f"{memory} KiB, {good_memory} with good ones")
    assert refused > COUNT / 3
    assert memory < 1.5 * good_memory


@pytest.mark.slow
def test_what_would_run_code_is_refused_by_name_and_does_not_run(
    folder: Path, lcam: Commands
) -> None:
    target = folder / "ran"
    state = tiny_network().state_dict()
    names = {"evil.pt": True, "old.pt": False}
    for name, zipped in names.items():
        evil = {"state_dict": state, "extra": Attack(target)}
        torch.save(evil, folder / name, _use_new_zipfile_serialization=zipped)
    commands = [
        command(name)
        for name in ("evil.pt", "old.pt")
        for command in (with_weights, with_attention)
    ]
    commands.append([*TRAIN[:-1], "evil", "--resume"])
    (folder / "evil").mkdir()
    torch.save({"fingerprint": "", "rng": Attack(target)}, folder / "evil" / CHECKPOINT)
    for words in commands:
        ended = lcam(folder, words)
        assert ended.code == 2
        assert_told_in_lines(ended)
        assert f"would run {os.system.__module__}.system" in ended.err
        assert not target.exists()
    torch.load(folder / "evil.pt", weights_only=False)
    assert target.exists(), "the attack is real"


@pytest.mark.slow
def test_files_that_claim_more_than_they_hold(folder: Path, lcam: Commands) -> None:
    """None of them makes the run hold much more memory than a good file does."""
    state = tiny_network().state_dict()
    torch.save(state, folder / "good.pt")
    torch.save({**state, "6.weight": torch.zeros(1).expand(10**9, 6)}, folder / "expanded.pt")
    torch.save({**state, "6.weight": torch.empty(10**9, 6, device="meta")}, folder / "meta.pt")
    index = torch.zeros(2, 1, dtype=torch.long)
    sparse = torch.sparse_coo_tensor(index, torch.ones(1), (10**6, 6), check_invariants=True)
    torch.save({**state, "6.weight": sparse}, folder / "sparse.pt")
    torch.save({**state, "0.weight": torch.zeros(100_000_000)}, folder / "plain.pt")
    with (
        zipfile.ZipFile(folder / "plain.pt") as plain,
        zipfile.ZipFile(folder / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    (folder / "plain.pt").unlink()
    header = json.dumps(
        {"x": {"dtype": "F32", "shape": [10**9, 9], "data_offsets": [0, 36 * 10**9]}}
    )
    lying = len(header).to_bytes(8, "little") + header.encode() + b"\0" * 100
    (folder / "lying.safetensors").write_bytes(lying)
    (folder / "long.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    os.mkfifo(folder / "pipe.pt")
    names = ["good.pt", "expanded.pt", "meta.pt", "sparse.pt", "packed.pt"]
    names += ["lying.safetensors", "long.safetensors", "pipe.pt", "/dev/zero", "photos"]
    good, *bad = (lcam(folder, with_weights(name)) for name in names)
    assert good.code == 0, good.err
    for name, ended in zip(names[1:], bad, strict=True):
        assert ended.code == 2, name
        assert_told_in_lines(ended)
        assert ended.memory < 1.2 * good.memory, name


@pytest.mark.slow
def test_an_attention_file_does_not_choose_what_else_is_read(folder: Path, lcam: Commands) -> None:
    ours = folder / "run" / "attention.safetensors"
    length = int.from_bytes(ours.read_bytes()[:8], "little")
    header = json.loads(ours.read_bytes()[8 : 8 + length])
    body = ours.read_bytes()[8 + length :]
    told = header["__metadata__"]
    backbone = json.loads(told["backbone"])
    changes = [
        {"backbone": json.dumps({**backbone, "weights": weights})}
        for weights in ("/dev/zero", "none:seed=x", "none:seed=9999999999999999999999", "../w.pt")
    ]
    changes += [
        {"backbone": json.dumps({**backbone, "layer": "__class__"})},
        {"backbone": json.dumps({**backbone, "weights": "sha256:0", "weights_file": "/dev/zero"})},
        {"backbone": "[" * 100_000},
        {"class_names": "{}"},
        {"class_names": json.dumps([["a"], None, 1, "\x1b[2J"])},
        {"preprocess": "[]"},
        {"training": "null"},
    ]
    commands = []
    for k, change in enumerate(changes):
        changed = json.dumps({**header, "__metadata__": {**told, **change}}).encode()
        path = folder / f"{k}.safetensors"
        path.write_bytes(len(changed).to_bytes(8, "little") + changed + body)
        commands.append(with_attention(path.name))
    ended = [lcam(folder, words) for words in commands]
    for change, one in zip(changes, ended, strict=True):
        assert_told_in_lines(one)
        assert one.code == 2 or "\x1b" in str(change) or "u001b" in str(change), change
        assert "\x1b" not in one.err + one.out


@pytest.mark.slow
def test_a_training_checkpoint_that_is_damaged_is_refused(folder: Path, lcam: Commands) -> None:
    from lcam_cli.errors import LcamError
    from lcam_cli.training.loop import train
    from tests.tiny import tiny_backbone
    from tests.training.test_loop import _settings

    engine = Engine(tiny_backbone(), device="cpu")
    paths = sorted(map(str, (folder / "photos").iterdir()))
    out = folder / "own"
    out.mkdir()
    assert train(engine, paths, out, _settings("auto"), stop=lambda: True) is None
    good = torch.load(out / CHECKPOINT, weights_only=True)
    moments = [{"state": {0: {"step": "x"}}, "param_groups": []}] * 2
    for change in (
        {"epoch": -1},
        {"batch": "2"},
        {"step": None},
        {"rng": torch.zeros(3)},
        {"rows": {}},
        {"rows": {**good["rows"], "W0": torch.zeros(2, 2)}},
        {"optimisers": good["optimisers"][:1]},
        {"optimisers": moments},
    ):
        torch.save({**good, **change}, out / CHECKPOINT)
        with pytest.raises(LcamError, match="damaged"):
            train(engine, paths, out, _settings("auto"), resume=True)
    torch.save(good, out / CHECKPOINT)
    assert train(engine, paths, out, _settings("auto"), resume=True) is not None
