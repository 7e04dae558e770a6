"""Who takes which images."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcam_cli.errors import LcamError
from lcam_cli.scale.shares import (
    parse_shard,
    shard_from,
    shard_range,
    shards_of,
    share_out,
)

COUNTS = st.integers(1, 9)


def test_by_hand() -> None:
    # 10 images in batches of 4 are the batches 0-3, 4-7 and 8-9.
    assert [shard_range(10, 4, i, 2) for i in range(2)] == [range(4), range(4, 10)]
    assert [shard_range(10, 4, i, 3) for i in range(3)] == [range(4), range(4, 8), range(8, 10)]
    assert share_out([range(4), range(8, 14)], 4, 2) == [[range(4)], [range(8, 14)]]
    assert share_out([range(4), range(8, 16)], 4, 1) == [[range(4), range(8, 16)]]


@given(st.integers(0, 200), st.integers(1, 20), COUNTS)
def test_shards_are_whole_batches_side_by_side(pictures: int, batch: int, count: int) -> None:
    shards = [shard_range(pictures, batch, i, count) for i in range(count)]
    assert [p for shard in shards for p in shard] == list(range(pictures))
    assert all(shard.start % batch == 0 or not shard for shard in shards)
    batches = [-(-len(shard) // batch) for shard in shards]
    assert max(batches) - min(batches) <= 1


@given(st.sets(st.integers(0, 60)), st.integers(1, 7), COUNTS)
def test_every_gap_is_filled_once(edges: set[int], batch: int, count: int) -> None:
    cuts = sorted(edges)
    gaps = [range(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    shares = share_out(gaps, batch, count)
    assert len(shares) == count
    assert [p for share in shares for part in share for p in part] == [p for g in gaps for p in g]
    for share in shares:
        for part in share:
            gap = next(gap for gap in gaps if part.start in gap)
            assert part.stop <= gap.stop
            assert (part.start - gap.start) % batch == 0


def test_shards_and_their_attempts_are_known_by_name(tmp_path: Path) -> None:
    out = tmp_path / "a+b.h5"
    assert shards_of(tmp_path / "nowhere" / "maps.h5") == {}
    assert shard_from(out, 16).name == "a+b.from-0000016.h5"
    made = {shard_from(out, 16): 1, shard_from(out, 16, 2): 2, shard_from(out, 10**8, 11): 11}
    others = ["a+b.h5", "aab.from-0000000.h5", "a+b.from-000.h5", "a+b.from-0000000.x.h5"]
    for path in [*made, *(tmp_path / name for name in others)]:
        path.touch()
    assert shards_of(out) == made


@pytest.mark.parametrize("text", ["3/3", "-1/3", "1", "1/0", "a/b", "1/3/5", "", "0/99999999999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    assert parse_shard("2/3") == (2, 3)
    with pytest.raises(LcamError, match="is not a shard"):
        parse_shard(text)
