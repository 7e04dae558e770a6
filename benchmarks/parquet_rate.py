"""Pictures in a Parquet file against the same images in a folder: rate and memory of reading.

    python benchmarks/parquet_rate.py PHOTOS

One reading process a way, the very one that `lcam explain` starts, takes its turn with the other.
The rates are in core-seconds of these processes, so that others on the machine matter less; the
memory is the peak resident set after few rows and after many.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import side_by_side as s

from lcam_cli.images.decoder import Decoder
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.request import Request

_PREPROCESS = Preprocess()
_UTIME, _STIME = 11, 12  # of /proc/PID/stat, after the name


def make_table(photos: Path, rows: int, path: Path) -> list[str]:
    """Write a table as Hugging Face's datasets do; return the file of each of its rows."""
    found = s.pictures_in(photos)
    files = [str(found[row % len(found)]) for row in range(rows)]
    schema = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()})})
    with pq.ParquetWriter(path, schema) as writer:
        for begin in range(0, rows, 100):
            some = [
                {"bytes": Path(file).read_bytes(), "path": None}
                for file in files[begin : begin + 100]
            ]
            writer.write_table(pa.table({"image": some}, schema=schema))
    return files


def core_seconds(decoder: Decoder, paths: Sequence[str]) -> float:
    """Core-seconds of its process to make the views."""
    start = _spent(decoder)
    for path in paths:
        decoder.read(Request(path, preprocess=_PREPROCESS))
    return _spent(decoder) - start


def _spent(decoder: Decoder) -> float:
    stat = Path(f"/proc/{decoder._process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[_UTIME]) + int(stat[_STIME])) / os.sysconf("SC_CLK_TCK")


def peak(decoder: Decoder) -> float:
    """Peak resident set, MB."""
    status = Path(f"/proc/{decoder._process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5, help="within the few")
    given = parser.parse_args()
    print(s.machine())
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        table = Path(work) / "photos.parquet"
        files = make_table(given.photos, given.many, table)
        rows = [f"{table}#{row}" for row in range(given.many)]
        folder, parquet = (stack.enter_context(contextlib.closing(Decoder())) for _ in range(2))
        core_seconds(folder, files[:5]), core_seconds(parquet, rows[:5])  # imports
        ratios = []
        length = given.few // given.rounds
        for begin in range(0, length * given.rounds, length):
            some = slice(begin, begin + length)
            ratios.append(core_seconds(folder, files[some]) / core_seconds(parquet, rows[some]))
        print(s.row("Parquet / folder, rate of reading", ratios))
        peaks = [peak(parquet)]
        core_seconds(parquet, rows[given.few :])
        peaks.append(peak(parquet))
        print(
            f"peak after {given.few} rows {peaks[0]:.0f} MB, after {given.many} {peaks[1]:.0f} MB"
        )
        print(f"the folder's, after {given.few} pictures: {peak(folder):.0f} MB")


if __name__ == "__main__":
    main()
