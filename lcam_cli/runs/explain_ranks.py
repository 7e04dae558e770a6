"""``lcam explain`` by several ranks: who explains what, and one file of it all in the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.locks import lock_file
from lcam_cli.maps.hdf5.joining import join
from lcam_cli.maps.hdf5.reader import OVERWRITE_HINT, MapsFile
from lcam_cli.maps.hdf5.resuming import ExpectedRun, ReusablePart
from lcam_cli.maps.names import claim_folder
from lcam_cli.runs.explain_run import ExplainRun, PartResult, check_numbers
from lcam_cli.runs.outputs import check_shared, maps_info
from lcam_cli.scale.ranks import RESUME, Ranks
from lcam_cli.scale.shares import gaps_between, shard_from, shards_of, share_out


@dataclass(frozen=True)
class Plan:
    """Who explains what.

    Attributes:
        attempt: Of :func:`shard_from`.
        shares: The images of each rank.
    """

    attempt: int
    shares: list[list[range]]


def explain_by_ranks(
    run: ExplainRun, out: Path, ranks: Ranks, stop: Callable[[], bool]
) -> PartResult | None:
    """Explain the images together with the other ranks.

    Each writes what it explains to shards beside ``out``. What shards of an earlier attempt hold
    is kept, whoever wrote it; the rest is shared out anew.

    Args:
        run: The same on all ranks.
        out: The file that joins the shards in the end.
        ranks: All of them.
        stop: Asked after every batch; True ends with what is done saved.

    Returns:
        None where it was stopped. Rows are those of the whole run, and known to the first rank.

    Raises:
        LcamError: The output cannot be used, or another rank was lost.
    """
    plan = ranks.share(lambda: _prepare(run, out, ranks))
    if plan is None:
        with MapsFile(out) as maps:
            return PartResult(len(maps), True, maps.flat_summary())
    to_do = sum(len(pictures) for share in plan.shares for pictures in share)
    if ranks.is_first:
        ranks.advance(len(run.task.found.paths) - to_do)
    # What there is was dealt with: a rank makes its shards anew.
    options = dataclasses.replace(run.options, resume=False, overwrite=True)
    run = dataclasses.replace(run, options=options)
    for pictures in plan.shares[ranks.info.rank]:
        part = run.task.part(shard_from(out, pictures.start, plan.attempt), pictures)
        with lock_file(part.out):
            result = run.explain(part, ranks.advance, lambda: bool(stop() or ranks.lost))
        if result is None:
            _check(ranks)
            return None
    ranks.finish(run.skipped.count)
    if not ranks.is_first:
        return PartResult(0, was_complete=False)
    run.skipped.count += ranks.wait_for_others(stop)
    if stop():
        _check(ranks)
        return None
    rows = _join(run, out, plan.attempt)
    with MapsFile(out) as maps:
        return PartResult(rows, False, maps.flat_summary())


def _check(ranks: Ranks) -> None:
    """Tell a run that was stopped because a rank was lost from one that the user stopped.

    Raises:
        LcamError: A rank was lost.
    """
    if ranks.lost:
        raise LcamError(ranks.lost, RESUME)


def _prepare(run: ExplainRun, out: Path, ranks: Ranks) -> Plan | None:
    """Look through what there is, and share out the rest; None where all is done."""
    check_shared(out)
    if out.is_dir():  # before any work: the file takes its place at the very end
        raise LcamError(f"{out} is a folder", "pass a file name that ends in .h5")
    resume, overwrite = run.options.resume, run.options.overwrite
    if run.options.overlays.folder is not None:
        claim_folder(run.options.overlays.folder, may_exist=resume or overwrite)
    there = [path for path in (out, *shards_of(out)) if path.exists()]
    if there and not (resume or overwrite):
        raise LcamError(f"{there[0]} exists", "pass --resume, --overwrite or another --out")
    attempt = _begin_anew(out) if overwrite else max(shards_of(out).values(), default=1)
    # Else it is what this attempt replaces in the end.
    if out.exists() and attempt <= _attempt_in(out) and _is_complete(run, out):
        return None
    shards = _shards(out, attempt)
    kept = _expected(run).reusable_parts(shards)
    files = {one.file for one in kept}
    for path in shards:
        if path not in files:  # it has no whole batch
            path.unlink()
    _report_skipped(run, kept)
    gaps = gaps_between([one.pictures for one in kept], len(run.task.names))
    return Plan(attempt, share_out(gaps, run.task.batch_size, ranks.info.size))


def _begin_anew(out: Path) -> int:
    """Remove shards of unfinished runs; return the number of the attempt that begins.

    What there is under the name itself stays, with the shards that it joins, until the new file
    takes its place: a mistake, or a kill, costs nothing that was finished.
    """
    joined = _joined_by(out)
    for path in shards_of(out):
        if path not in joined:
            path.unlink()
    return _attempt_in(out) + 1 if out.exists() else 1


def _joined_by(out: Path) -> set[Path]:
    """Return the shards that a file joins; none where it joins none, or cannot be read."""
    with suppress(LcamError), MapsFile(out) as maps:
        return {shard for shard, _, _ in maps.shards}
    return set()


def _attempt_in(out: Path) -> int:
    """Return the attempt whose shards a file joins; the first where it joins none."""
    attempts = shards_of(out)
    return max((attempts[path] for path in _joined_by(out) if path in attempts), default=1)


def _is_complete(run: ExplainRun, out: Path) -> bool:
    """Whether a file has all images; where one process began it, it is the first shard now.

    Raises:
        LcamError: It is finished without some, or of another run.
    """
    with MapsFile(out, hint=OVERWRITE_HINT) as maps:
        complete = maps.complete
    kept = _expected(run).reusable_parts([out])
    has = sum(len(one.pictures) for one in kept)
    if complete and has < len(run.task.names):
        raise LcamError(
            f"{out} is finished but lacks some of the images",
            "explain the new images with another --out, or all images with --overwrite",
        )
    if complete:
        _report_skipped(run, kept)
        _remove_replaced(out, _attempt_in(out))
        return True
    first = shard_from(out, 0)
    if first.exists():
        raise LcamError(f"{out} and {first} are from two runs", "use --overwrite, or remove one")
    out.rename(first)
    return False


def _shards(out: Path, attempt: int) -> list[Path]:
    return [path for path, its in shards_of(out).items() if its == attempt]


def _remove_replaced(out: Path, attempt: int) -> None:
    """Remove the shards of the finished run that an attempt has replaced."""
    for path, its in shards_of(out).items():
        if its < attempt:
            path.unlink()


def _report_skipped(run: ExplainRun, kept: Sequence[ReusablePart]) -> None:
    """Report what was left out of the parts that are kept; the ranks report that of the others."""
    has_first = bool(kept) and kept[0].pictures.start == 0
    run.report_skipped(
        [item for one in kept for item in one.skipped], run.task.found.skipped * has_first
    )


def _join(run: ExplainRun, out: Path, attempt: int) -> int:
    kept = _expected(run).reusable_parts(_shards(out, attempt))
    gaps = gaps_between([one.pictures for one in kept], len(run.task.names))
    if gaps:
        raise LcamError(
            f"images {gaps[0].start} to {gaps[0].stop} are not in any shard of {out}", RESUME
        )
    lost = [one for part in kept for one in part.skipped]
    check_numbers(sum(part.rows for part in kept), lost, run.task.engine.hardware.precision)
    rows = join(out, kept)
    _remove_replaced(out, attempt)
    return rows


def _expected(run: ExplainRun) -> ExpectedRun:
    task = run.task
    backbone = task.engine.backbone
    return ExpectedRun(
        maps_info(task.engine, task.method, task.found.root, task.choice),
        task.names,
        task.describe(range(0)).inputs,
        task.choice.per_picture,
        task.batch_size,
        size=backbone.preprocess.input_shape[1:],
        map_dtype=run.options.map_dtype,
    )
