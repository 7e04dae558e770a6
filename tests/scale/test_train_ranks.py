"""``lcam train`` by several ranks: the same weights as by one process."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import torch

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from lcam_cli.methods.attention_file import FILE_NAME
from lcam_cli.training.checkpoint import CHECKPOINT
from lcam_cli.training.log import read_log
from lcam_cli.training.results import SELECTION
from tests.scale.starting import by_hand, torchrun, warm_torchrun
from tests.tiny import write_pictures

MINUTE = 60.0
OWN = """
from tests.tiny import tiny_network
def net():
    return tiny_network()
def many():
    return tiny_network(classes=4000)
"""
NETWORK = ["--weights", "none", "--image-size", "32", "--device", "cpu", "--workers", "1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """22 images, one unreadable: batches of 8, 8 and 6."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    write_pictures(tmp_path / "photos", 21)
    (tmp_path / "photos" / "007-bad.jpg").write_text("no picture")
    return tmp_path


def words(mode: str, recipe: str, out: str, net: str = "net") -> list[str]:
    return [
        *("train", "photos", "--backbone", f"own.py:{net}", *NETWORK, "--mode", mode),
        *("--recipe", recipe, "--epochs", "1", "--batch-size", "8", "--out", out),
    ]


def sent(err: str) -> int:
    (line,) = (line for line in err.splitlines() if "bytes per step" in line)
    return int(line.split(" sent ")[1].split()[0].replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "recipe", "ranks"),
    [("img", "paper", 2), ("fm", "paper", 3), ("img", "auto", 2), ("amg", "auto", 2)],
)
def test_weights_and_log_are_those_of_one_process(
    folder: Path, mode: str, recipe: str, ranks: int
) -> None:
    """To rounding: but `auto` and AMG use Adam, which takes a step where a gradient is only that.

    So it is with the first one of c, since a factor of L changes no map, and with AMG's last bias.
    """
    from safetensors.torch import load_file

    assert run(lcam_app(), words(mode, recipe, "one")) == 3
    agent = warm_torchrun(folder, words(mode, recipe, "many"), ranks)
    _, err = agent.communicate()
    assert err.count("skipped photos/007-bad.jpg") == 1, err
    one, many = load_file(folder / "one" / FILE_NAME), load_file(folder / "many" / FILE_NAME)
    assert one.keys() == many.keys()
    for name, expected in one.items():
        difference = (many[name] - expected).abs().max() / expected.abs().max().clamp_min(1)
        print(f"{mode} {recipe} {name}: {difference:.1e} of the largest value")
        assert difference <= (1e-5 if recipe == "paper" else 1e-3)
    # Recipe auto keeps four images aside, on which the first rank alone compares.
    assert err.count("kept aside, Average Drop") == (recipe == "auto"), err
    if recipe == "auto":
        found = [json.loads((folder / run / SELECTION).read_text()) for run in ("one", "many")]
        assert found[0]["chosen"] == found[1]["chosen"]
        assert found[0]["kept_aside"] == found[1]["kept_aside"] == 4
        drops = [one["candidates"]["learned"]["mean_ad"]["mean"] for one in found]
        assert drops[0] == pytest.approx(drops[1], rel=1e-2)
    logs = [read_log(folder / run / "log.csv") for run in ("one", "many")]
    assert [row["step"] for row in logs[1]] == [0, 1, 2]
    for ours, theirs in zip(*logs, strict=True):
        for term in ("loss", "tv", "av", "ce", "lr"):
            assert ours[term] == pytest.approx(theirs[term], rel=1e-3)


@pytest.mark.slow
def test_the_bytes_of_a_step_do_not_grow_with_the_classes(folder: Path) -> None:
    given = []
    for net in ("net", "many"):
        agent = warm_torchrun(folder, words("img", "auto", net, net), 2)
        _, err = agent.communicate()
        given.append(sent(err))
    print(f"bytes per step with 4 and with 4,000 classes: {given}")
    # More classes, more of them different in a batch of 8: at most 4 rows of 6 and a number each.
    assert given[1] <= given[0] + 4 * (8 + 6 * 4)
    assert given[1] < 4000 * 4, "not even a number a class"


@pytest.mark.parametrize(
    ("mode", "recipe", "why"),
    [
        ("tame", "auto", "batch norm"),
        ("l2x-f", "auto", "positions that it draws"),
        ("img", "reference", "pairs every image"),
    ],
)
def test_what_ranks_would_do_otherwise_is_refused(
    folder: Path,
    mode: str,
    recipe: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert run(lcam_app(), words(mode, recipe, "out")) == 2
    assert why in capfd.readouterr().err
    assert not (folder / "out").exists()
    assert run(lcam_app(), [*words("img", "auto", "out"), "--batch-size", "1"]) == 2
    assert "less than one image for each of 2 ranks" in capfd.readouterr().err


def test_gradients_of_ranks_are_added_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks by hand: what the second would send is put in its place."""
    import torch.distributed as dist

    from lcam_cli.scale.gradient_sync import GradientSync
    from lcam_cli.scale.rank_info import RankInfo
    from lcam_cli.scale.ranks import Ranks

    W, b = (torch.nn.Parameter(torch.zeros(5, 2)), torch.nn.Parameter(torch.zeros(3)))
    indices = torch.tensor([[1, 4]])
    W.grad = torch.sparse_coo_tensor(indices, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (5, 2))
    b.grad = torch.tensor([1.0, 1.0, 1.0])
    # The other rank: 3 images to our 1, one row (4), gradient 10 of b, a loss of 8.
    theirs = iter([torch.tensor([1, 0]), torch.tensor([4, 0]), torch.tensor([[7.5, 7.5], [0, 0]])])

    def all_gather(out: list[torch.Tensor], mine: torch.Tensor) -> None:
        out[0].copy_(mine)
        out[1].copy_(next(theirs))

    def all_reduce(tensor: torch.Tensor) -> None:
        tensor += torch.tensor([3.0, 24.0, 30.0, 30.0, 30.0])

    monkeypatch.setattr(dist, "all_gather", all_gather)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    sync = GradientSync(Ranks(RankInfo(0, 2)))
    total, means = sync.average({"W": W, "b": b}, ["W"], 1, torch.tensor([4.0]))
    assert total == 4
    assert means.tolist() == [7.0]  # (4·1 + 8·3) / 4
    assert b.grad.tolist() == [7.75, 7.75, 7.75]  # (1·1 + 10·3) / 4
    assert W.grad.is_sparse
    expected = [[0, 0], [0.25, 0.5], [0, 0], [0, 0], [8.25, 8.5]]
    assert W.grad.to_dense().tolist() == expected
    # A count, a loss and b; two numbers; two row numbers; two rows of two.
    assert sync.sent == 4 * 5 + 8 * 2 + 8 * 2 + 4 * 4


@pytest.mark.slow
def test_a_rank_that_dies_is_named_and_the_run_goes_on_with_others(folder: Path) -> None:
    """Without torchrun; then resumed by one process, with the weights of an unbroken run."""
    from safetensors.torch import load_file

    many = [*words("img", "paper", "run"), "--epochs", "400"]
    ranks = by_hand(folder, many, 2)
    while len(read_log(folder / "run" / "log.csv")) < 20:
        assert all(rank.poll() is None for rank in ranks), ranks[0].communicate()
        time.sleep(0.05)
    ranks[1].kill()
    ranks[1].communicate()
    began = time.monotonic()
    _, err = ranks[0].communicate(timeout=2 * MINUTE)
    print(f"ended after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < MINUTE
    assert f"rank 1 (process {ranks[1].pid} on" in err
    assert "--resume" in err
    assert ranks[0].returncode == 2
    assert (folder / "run" / CHECKPOINT).exists()
    assert run(lcam_app(), [*many, "--resume"]) == 3
    assert run(lcam_app(), [*many, "--out", "whole"]) == 3
    ended, whole = (load_file(folder / out / FILE_NAME)["weight"] for out in ("run", "whole"))
    torch.testing.assert_close(ended, whole, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_an_interrupt_saves_and_says_how_to_resume(folder: Path) -> None:
    many = [*words("img", "paper", "run"), "--epochs", "400"]
    agent = torchrun(folder, many, 2)
    while len(read_log(folder / "run" / "log.csv")) < 20:
        assert agent.poll() is None, agent.communicate()
        time.sleep(0.05)
    agent.send_signal(signal.SIGTERM)  # as a batch system does
    _, err = agent.communicate(timeout=MINUTE)
    assert "interrupted; the run is saved in run" in err
    assert (folder / "run" / CHECKPOINT).exists()
