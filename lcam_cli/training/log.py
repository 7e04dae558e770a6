"""What a training run leaves for people to look at: ``log.csv`` and ``losses.png``."""

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


def draw_losses(log: Path, picture: Path) -> None:
    """Draw the loss terms of ``log.csv`` against the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (slow import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows = read_log(log)
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [r["step"] for r in rows]
    labels = {"loss": "loss (Eq. 6)"} | {name: TERMS[name].label for name in reversed(TERMS)}
    for term, label in labels.items():
        values = [r[term] for r in rows]
        line = axes.plot(steps, values, alpha=0.25, linewidth=0.8)[0]
        axes.plot(steps, _smooth(values), color=line.get_color(), label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("value (terms unweighted, loss weighted)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=150)


def _smooth(values: list[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start."""
    average, smoothed = 0.0, []
    for count, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - weight**count))
    return smoothed


def _plain(column: str, value: float) -> str:
    return str(int(value)) if column in ("epoch", "step") else f"{value:.6g}"
