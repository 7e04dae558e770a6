"""``log.csv``: a line a step of a training run."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TextIO

from lcam_cli.maps.atomic import keep_mode
from lcam_cli.training.losses import TERMS

LOG = "log.csv"
COLUMNS = ("epoch", "step", "loss", *TERMS, "lr", "images_per_second")


class TrainingLog:
    """Appends one line a step to ``log.csv``.

    Args:
        path: The file.
        resume_from: Keep the lines of the steps before this one and go on after them; 0 starts
            a new file.
    """

    def __init__(self, path: Path, resume_from: int = 0) -> None:
        kept = [r for r in read_log(path) if r["step"] < resume_from] if resume_from else []
        # Under another name until what was kept is there again: the run may be killed here too.
        begun = path.with_name(path.name + ".tmp")
        self._file: TextIO = begun.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._writer.writeheader()
        self._writer.writerows({k: _plain(k, v) for k, v in row.items()} for row in kept)
        self.sync()
        keep_mode(begun, path)
        begun.replace(path)

    def write(self, row: dict[str, float]) -> None:
        """Append one step's line; it survives the end of this process."""
        self._writer.writerow({k: _plain(k, row[k]) for k in COLUMNS})
        self._file.flush()

    def sync(self) -> None:
        """Have all lines reach the disk; they survive the end of power."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NoLog:
    """The log of a rank that writes none: the first one's is that of all."""

    def write(self, row: dict[str, float]) -> None:
        """Write nothing."""

    def sync(self) -> None:
        """There is nothing to sync."""

    def close(self) -> None:
        """There is nothing to close."""


def read_log(path: Path) -> list[dict[str, float]]:
    """Read ``log.csv``; an unfinished last line is left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = []
        for row in csv.DictReader(file):
            try:
                rows.append({k: float(row[k]) for k in COLUMNS})
            except (TypeError, ValueError, KeyError):
                continue
        return rows


def _plain(column: str, value: float) -> str:
    return str(int(value)) if column in ("epoch", "step") else f"{value:.6g}"
