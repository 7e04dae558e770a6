"""A comparison in parts: whoever makes them, they add up to that of one process."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lcam_cli.cli.console import Console
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Found, Skipped
from lcam_cli.images.stream import stream_batches
from lcam_cli.measures.compare_state import CompareState
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.sweep import Candidate
from lcam_cli.measures.task import Task
from lcam_cli.methods.base import Maps
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.gradient import GradCam, GradCamPlusPlus
from lcam_cli.methods.noise import RandomMap
from lcam_cli.runs.compare_plan import Plan
from lcam_cli.runs.compare_run import CompareRun
from lcam_cli.runs.comparison import Comparison
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.scale.ranks import Ranks
from tests.tiny import tiny_backbone, write_pictures

PICTURES = 11


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    made = write_pictures(tmp_path / "photos", PICTURES)
    Path(made[5]).write_text("no picture")
    return made


def a_run(
    paths: list[str],
    state: Path,
    rank: int = 0,
    size: int = 1,
    *,
    more: bool = False,
    batch_size: int = 2,
    keep_maps: bool = True,
) -> CompareRun:
    """What one rank has in hand; ``more``: with one method more."""
    engine = Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=batch_size)
    task = Task(paths, ClassChoice(), [50.0], make_measures(), shown=[0, 10])
    methods = [GradCam(), RandomMap(seed=1), *([GradCamPlusPlus()] if more else [])]
    slow = GradCam()
    slow.name, slow.forward_passes = "slow", 9  # a sweep of its own
    comparison = Comparison(
        engine,
        Found(paths, [Skipped("gone.jpg", "is not there")], str(Path(paths[0]).parent)),
        task,
        [Candidate(m.name, m, PictureScores.empty(task, (32, 32))) for m in [*methods, slow]],
        CompareState(state, engine, task),
        keep_maps=keep_maps,
    )
    return CompareRun(comparison, Ranks(RankInfo(rank, size, rank, size)))


def do(run: CompareRun, plan: Plan) -> list[str]:
    skipped: list[str] = []
    run.run(
        plan,
        Console(quiet=True),
        workers=1,
        max_pixels=10**6,
        skip=lambda one: skipped.append(one.path),
    )
    return skipped


def untold(skipped: Skipped) -> None:
    raise AssertionError(f"{skipped} was told of already")


def parts_of(plan: Plan) -> list[range]:
    return [part for _, shares in plan.sweeps for share in shares for part in share]


def assert_same(one: CompareRun, other: CompareRun) -> None:
    for mine, theirs in zip(one.comparison.candidates, other.comparison.candidates, strict=True):
        assert not mine.failed
        assert mine.scores.scored.sum() == PICTURES - 1
        for name in ("classes", "full", "masked", "mean_saliency", "shown"):
            a, b = getattr(mine.scores, name), getattr(theirs.scores, name)
            np.testing.assert_array_equal(a, b, err_msg=name)


def maps_of(run: CompareRun, out: Path) -> dict[str, np.ndarray]:
    """All that the joined file holds."""
    run.comparison.join_maps(out)
    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(out) as file:
        file.visititems(keep)
        assert not any("shard" in file[group].attrs for group in file)
        assert {file[group].attrs["classes_explained"] for group in file} == {'{"top_k": 1}'}
    return found


@pytest.fixture
def whole(paths: list[str], tmp_path: Path) -> CompareRun:
    """A comparison by one process."""
    run = a_run(paths, tmp_path / "whole")
    assert do(run, run.plan(resume=False)) == [paths[5]] * 2, "once a sweep"
    run.collect(untold)
    return run


@pytest.mark.parametrize("size", [2, 3, 8])
def test_ranks_together_score_as_one_process(
    paths: list[str], tmp_path: Path, whole: CompareRun, size: int
) -> None:
    plan = a_run(paths, tmp_path / "state", 0, size).plan(resume=False)
    assert plan.taken == []
    for _, shares in plan.sweeps:
        assert [i for share in shares for part in share for i in part] == list(range(PICTURES))
    assert plan.pictures == 2 * PICTURES
    for rank in reversed(range(size)):  # in any order
        do(a_run(paths, tmp_path / "state", rank, size), plan)
    first = a_run(paths, tmp_path / "state", 0, size)
    first.collect(untold)
    assert_same(first, whole)
    ours, theirs = maps_of(first, tmp_path / "ours.h5"), maps_of(whole, tmp_path / "theirs.h5")
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
    first.comparison.drop_maps()
    assert not list((tmp_path / "state").rglob("*.h5"))


def test_what_one_rank_left_is_done_by_others(
    paths: list[str], tmp_path: Path, whole: CompareRun
) -> None:
    plan = a_run(paths, tmp_path / "state", 0, 3).plan(resume=False)
    do(a_run(paths, tmp_path / "state", 1, 3), plan)  # the others died
    again = a_run(paths, tmp_path / "state")
    rest = again.plan(resume=True)
    kept = {part for _, shares in plan.sweeps for part in shares[1]}
    assert kept == {range(4, 8)}
    assert set(parts_of(rest)) == {range(4), range(8, 11)}
    do(again, rest)
    again.collect(untold)
    assert_same(again, whole)
    assert sorted(maps_of(again, tmp_path / "m.h5")) == sorted(maps_of(whole, tmp_path / "n.h5"))
    # And once it is finished, nothing is left to do, by however many.
    assert a_run(paths, tmp_path / "state", 0, 2).plan(resume=True).sweeps == []


def test_a_part_is_kept_where_it_fits(paths: list[str], tmp_path: Path) -> None:
    plan = a_run(paths, tmp_path / "state", 0, 3).plan(resume=False)
    for rank in range(3):
        do(a_run(paths, tmp_path / "state", rank, 3), plan)
    # A method more in the first sweep: what the others of that sweep have is complete all the same.
    more = a_run(paths, tmp_path / "state", more=True).plan(resume=True)
    assert more.taken == ["gradcam", "random", "slow"]
    assert more.sweeps == [(["gradcam++"], [[range(PICTURES)]])]
    state = a_run(paths, tmp_path / "state").comparison.state
    slow = a_run(paths, tmp_path / "state").comparison.candidates[-1]
    damaged = next(state.folder.glob(f"{state.maps_path(slow).stem}.4-8.npz"))
    damaged.write_bytes(damaged.read_bytes()[:50])
    rest = a_run(paths, tmp_path / "state").plan(resume=True)
    assert rest.sweeps == [(["slow"], [[range(4, 8)]])]
    assert not damaged.exists()
    # Batches of three would begin elsewhere: such parts are made anew.
    other = a_run(paths, tmp_path / "state", batch_size=3).plan(resume=True)
    assert other.sweeps == [(["slow"], [[range(PICTURES)]])]
    # Not resumed, nothing stays.
    assert a_run(paths, tmp_path / "state").plan(resume=False).taken == []
    assert not list(state.folder.glob("*.npz"))


def test_maps_that_are_gone_are_made_again(paths: list[str], tmp_path: Path) -> None:
    run = a_run(paths, tmp_path / "state", keep_maps=False)
    do(run, run.plan(resume=False))
    assert a_run(paths, tmp_path / "state", keep_maps=False).plan(resume=True).sweeps == []
    assert len(a_run(paths, tmp_path / "state").plan(resume=True).sweeps) == 2


def test_a_part_that_vanishes_is_named(paths: list[str], tmp_path: Path) -> None:
    run = a_run(paths, tmp_path / "state", keep_maps=False)
    do(run, run.plan(resume=False))
    for file in run.comparison.state.folder.glob("*.npz"):
        file.write_bytes(b"")
    with pytest.raises(LcamError, match=r"images 0 to 11 of gradcam can no longer be read"):
        run.collect(untold)


class Sulking(GradCam):
    """Explains nothing."""

    def __call__(self, *_: object) -> None:  # type: ignore[override]
        raise LcamError("it sulks", "")


def test_a_method_is_given_up_where_no_rank_could_use_it(paths: list[str], tmp_path: Path) -> None:
    def with_sulking(rank: int, sulks: bool) -> CompareRun:
        run = a_run(paths, tmp_path / "state", rank, 2, keep_maps=False)
        method = Sulking() if sulks else GradCam()
        method.name = "sulking"
        task = run.comparison.task
        run.comparison.candidates.append(
            Candidate("sulking", method, PictureScores.empty(task, (32, 32)))
        )
        return run

    for one_does in (True, False):
        plan = with_sulking(0, True).plan(resume=False)
        do(with_sulking(0, True), plan)
        do(with_sulking(1, not one_does), plan)
        first, told = with_sulking(0, True), []
        first.collect(told.append)
        candidate = first.comparison.candidates[-1]
        if one_does:
            assert not candidate.failed
            why = "sulking: it could not explain any image (it sulks)"
            assert told == [Skipped(paths[i], why) for i in range(6) if i != 5]
            assert candidate.scores.scored.nonzero()[0].tolist() == [6, 7, 8, 9, 10]
        else:
            assert "it sulks" in candidate.failed
            assert not told, "that the method was given up is enough"
            assert not first.comparison.state.parts(candidate), "to be tried anew"


def test_a_part_is_tried_to_its_end(paths: list[str], tmp_path: Path) -> None:
    """Though a method fails on so many images that one process would give it up."""
    more = write_pictures(tmp_path / "more", 24)

    class FailsOnSome(GradCam):
        def __call__(self, engine: Engine, seen: Forward, classes: torch.Tensor) -> Maps:
            if any(float(x.mean()) in bad for x in seen.x):
                raise LcamError("it fails", "")
            return super().__call__(engine, seen, classes)

    engine = Engine(tiny_backbone(), device="cpu", precision="fp32", batch_size=2)
    views = next(stream_batches(more, engine.backbone.preprocess, 24, workers=1)).images
    bad = {float(x.mean()) for x in engine.forward(engine.pixels(views)).x[12:21]}
    task = Task(more, ClassChoice(), [50.0])

    def run(rank: int, size: int, state: str) -> CompareRun:
        candidate = Candidate("picky", FailsOnSome(), PictureScores.empty(task, (32, 32)))
        found = Found(more, [], str(tmp_path / "more"))
        kept = CompareState(tmp_path / state, engine, task)
        comparison = Comparison(engine, found, task, [candidate], kept, keep_maps=False)
        return CompareRun(comparison, Ranks(RankInfo(rank, size, rank, size)))

    told: dict[int, list[str]] = {}
    for size in (1, 2):
        plan = run(0, size, f"s{size}").plan(resume=False)
        runs = [run(rank, size, f"s{size}") for rank in range(size)]
        told[size] = [path for one in runs for path in do(one, plan)]
        first = run(0, size, f"s{size}")
        first.collect(untold)
        assert first.comparison.candidates[0].scores.scored.sum() == 15
    assert told[1] == told[2] == more[12:21]
