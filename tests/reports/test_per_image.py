"""The file of every image's numbers: what it holds, and that half of one is none."""

from __future__ import annotations

import csv
import errno
import json
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcam_cli.errors import LcamError
from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.registry import find_measure
from lcam_cli.measures.scored import ScoredRows
from lcam_cli.reports import per_image
from lcam_cli.reports.per_image import PerImage
from tests.reports.sample import Between, Plain

METHODS = ["cam", "=cmd()"]
MEASURED = [Quantity(find_measure("ad"), 12.5), Quantity(Between(), None)]
NUS = (100.0, 12.5)


def rows(paths: list[str], seed: int = 0) -> ScoredRows:
    rng = np.random.default_rng(seed)
    B = len(paths)
    return ScoredRows(
        paths=paths,
        class_index=np.arange(B, dtype=np.int32),
        class_names=[f"class {k}" for k in range(B)],
        predicted_index=np.full(B, 7, np.int32),
        full=rng.random(B, np.float32),
        masked=rng.random((2, 2, B), np.float32),
        numbers=rng.random((2, 3, B), np.float32),
        mean_saliency=rng.random((2, B), np.float32),
        flat=rng.random((2, B)) < 0.5,
    )


def written(target: Path, *batches: ScoredRows, labels: dict[str, int] | None = None) -> None:
    with PerImage(target, METHODS, MEASURED, NUS, labels) as file:
        for one in batches:
            file.add(one)
        assert not target.exists()
        file.finish()


def read(target: Path) -> list[dict[str, Any]]:
    """Lines by column, with None for what is empty."""
    if target.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(target)
        return list(table.to_pylist())
    if target.suffix == ".json":
        return list(json.loads(target.read_text("utf-8")))
    kinds = {"path": str, "class_name": str, "method": str, "flat": "true".__eq__}

    def value(name: str, text: str) -> object:
        kind: Any = kinds.get(name, int if name.endswith("_index") else float)
        return kind(text) if text else None

    with target.open(newline="", encoding="utf-8") as file:
        return [{k: value(k, text) for k, text in line.items()} for line in csv.DictReader(file)]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_a_line_a_picture_class_and_method(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    target = tmp_path / f"numbers{suffix}"
    given = rows(["a.jpg", "a.jpg", "ü/=b.jpg"])
    given.numbers[1, 0, 2] = np.nan
    written(target, given, rows(["c.jpg"], 1), labels={"a.jpg": 3})
    lines = read(target)
    assert list(lines[0]) == [
        *("path", "class_index", "class_name", "predicted_index", "true_index", "method"),
        *("score", "score_100", "score_12.5", "ad_12.5", "between", "mean_saliency", "flat"),
    ]
    names = METHODS if suffix != ".csv" else ["cam", "'=cmd()"]
    assert [(line["path"], line["class_index"], line["method"]) for line in lines] == [
        (path, k, name)
        for path, k in [("a.jpg", 0), ("a.jpg", 1), ("ü/=b.jpg", 2), ("c.jpg", 0)]
        for name in names
    ]
    assert [line["true_index"] for line in lines] == [3] * 4 + [None] * 4
    for b in range(3):
        for m in range(2):
            line = lines[2 * b + m]
            assert line["predicted_index"] == 7
            assert line["score"] == pytest.approx(given.full[b], rel=1e-6)
            assert line["score_12.5"] == pytest.approx(given.masked[m, 1, b], rel=1e-6)
            first, second = given.numbers[m, 1:, b]
            assert line["between"] == pytest.approx(float(first) - float(second), abs=1e-6)
            assert line["mean_saliency"] == pytest.approx(given.mean_saliency[m, b], rel=1e-6)
            assert line["flat"] == given.flat[m, b]
            if (b, m) == (2, 1):
                assert line["ad_12.5"] is None, "not defined"
            else:
                assert line["ad_12.5"] == pytest.approx(given.numbers[m, 0, b], rel=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_half_a_file_is_none(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    target = tmp_path / f"numbers{suffix}"
    target.write_text("before")
    with PerImage(target, METHODS, MEASURED, NUS) as file:  # as a run that is stopped
        file.add(rows(["a.jpg"]))
    with suppress(KeyboardInterrupt), PerImage(target, METHODS, MEASURED, NUS) as file:
        file.add(rows(["a.jpg"]))
        raise KeyboardInterrupt
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with PerImage(tmp_path / "numbers.csv", METHODS, MEASURED, NUS) as file:
        monkeypatch.setattr(per_image._Csv, "write", full)
        with pytest.raises(LcamError, match=r"cannot write .*numbers.csv: No space left") as error:
            file.add(rows(["a.jpg"]))
    assert "--per-image" in error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_unicode_are_written(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    given = rows(["\udcff.jpg"])
    written(tmp_path / "a.parquet", given)
    written(tmp_path / "a.csv", given)
    assert read(tmp_path / "a.csv")[0]["path"] == "\\udcff.jpg"
    assert parquet.read_table(tmp_path / "a.parquet")["path"][0].as_py() == "\\udcff.jpg"


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    def peak(batches: int) -> int:
        with PerImage(tmp_path / f"{batches}.csv", METHODS, MEASURED, NUS) as file:
            one = rows([f"{k}.jpg" for k in range(50)])
            file.add(one)
            tracemalloc.start()
            for _ in range(batches):
                file.add(one)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            file.finish()
        return most

    few, many = peak(4), peak(80)
    assert many < few + 20_000, "80 batches are 600,000 bytes"


def test_a_measure_takes_no_other_column(tmp_path: Path) -> None:
    given = rows(["a.jpg"])
    for name in ("score", "path"):
        with PerImage(
            tmp_path / "a.csv", METHODS, [MEASURED[0], Quantity(Plain(name), None)], NUS
        ) as file:
            file.add(replace(given, numbers=given.numbers[:, :2]))
            file.finish()
        with (tmp_path / "a.csv").open() as text:
            (line, _) = csv.DictReader(text)
        assert line["path"] == "a.jpg"
        assert float(line["score"]) == pytest.approx(given.full[0], rel=1e-6)
        assert float(line[f"measure_{name}"]) == pytest.approx(given.numbers[0, 1, 0], rel=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_full_disk_is_said_of_parquet_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(per_image, "_LINES_AT_ONCE", 1)
    with PerImage(tmp_path / "a.parquet", METHODS, MEASURED, NUS) as file:
        file._lines._file.close()  # type: ignore[attr-defined]
        file._lines._file = Path("/dev/full").open("wb", buffering=0)  # type: ignore[attr-defined]  # noqa: SIM115
        with pytest.raises(LcamError, match=r"cannot write .*: No space left"):
            file.add(rows(["a.jpg"]))
    assert list(tmp_path.iterdir()) == []


def test_parquet_has_few_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(per_image, "_LINES_AT_ONCE", 40)
    written(tmp_path / "a.parquet", *[rows([f"{k}.jpg" for k in range(5)])] * 9)
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (90, 3)
