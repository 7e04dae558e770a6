"""Which images each of several processes takes: contiguous ranges of whole batches.

Whole, so that every batch holds the images it holds in a run of one process, and the maps are the
same; contiguous, so that the parts put side by side are in the order of the inputs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from lcam_cli.errors import LcamError


def shard_range(pictures: int, batch: int, index: int, count: int) -> range:
    """Return the images of shard ``index`` of ``count``, maybe none.

    Args:
        pictures: How many there are.
        batch: Images a batch.
        index: From 0.
        count: Shards in all.
    """
    batches = -(-pictures // batch)
    first, stop = (min(k * batches // count * batch, pictures) for k in (index, index + 1))
    return range(first, stop)


def gaps_between(done: Sequence[range], pictures: int) -> list[range]:
    """Return the images that are still to be done, in ranges.

    Args:
        done: Those that are, in order and without overlap.
        pictures: How many there are in all.
    """
    edges = [0, *(edge for one in done for edge in (one.start, one.stop))]
    starts, stops = edges[::2], [*edges[1::2], pictures]
    return [range(a, b) for a, b in zip(starts, stops, strict=True) if a < b]


def share_out(gaps: Sequence[range], batch: int, count: int) -> list[list[range]]:
    """Share what is still to be done between ``count`` processes, as evenly as batches allow.

    Args:
        gaps: Ranges of images that are still to be done, in order.
        batch: Images a batch.
        count: Processes.

    Returns:
        The ranges of each process, in order; none where there is too little to do.
    """
    batches = [
        range(first, min(first + batch, gap.stop))
        for gap in gaps
        for first in range(gap.start, gap.stop, batch)
    ]
    cuts = [k * len(batches) // count for k in range(count + 1)]
    return [_joined(batches[a:b]) for a, b in itertools.pairwise(cuts)]


def _joined(ranges: Sequence[range]) -> list[range]:
    """Return the same images in as few ranges as possible."""
    joined: list[range] = []
    for one in ranges:
        if joined and joined[-1].stop == one.start:
            joined[-1] = range(joined[-1].start, one.stop)
        else:
            joined.append(one)
    return joined


def parse_shard(text: str) -> tuple[int, int]:
    """Return index and count of ``"i/n"``.

    Raises:
        LcamError: It is not that, or i is none of 0 … n-1.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise LcamError(
            f"--shard {text} is not a shard",
            "pass I/N, e.g. 0/3 for the first of three and 2/3 for the last",
        )
    return int(match[1]), int(match[2])


def shard_from(out: Path, first: int, attempt: int = 1) -> Path:
    """Return where the shard of ``out`` that begins at an image lies: ``maps.from-0000000.h5``.

    So it is called where ranks share a run: after each interruption they share what is left anew.

    Args:
        out: The file that joins the shards in the end.
        first: The image.
        attempt: Counts the runs that replace a finished one, whose shards stay while theirs are
            made; the second has ``maps.from-0000000.2.h5``.
    """
    number = f".{attempt}" if attempt > 1 else ""
    return out.with_name(f"{out.stem}.from-{first:07}{number}{out.suffix}")


def shards_of(out: Path) -> dict[Path, int]:
    """Return the files there are that :func:`shard_from` names, in order, and their attempts."""
    stem, suffix = re.escape(out.stem), re.escape(out.suffix)
    name = re.compile(rf"{stem}\.from-[0-9]{{7,}}(?:\.([0-9]{{1,9}}))?{suffix}")
    if not out.parent.is_dir():
        return {}
    there = sorted(out.parent.iterdir())
    matches = {path: match for path in there if (match := name.fullmatch(path.name))}
    return {path: int(match[1] or 1) for path, match in matches.items()}


def shard_file(out: Path, index: int, count: int) -> Path:
    """Return where a shard of the maps file ``out`` lies, e.g. ``maps.0-of-3.h5``."""
    return out.with_name(f"{out.stem}.{index}-of-{count}{out.suffix}")
