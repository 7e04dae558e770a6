from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli.errors import LcamError
from lcam_cli.maps.png import PngWriter
from tests.maps.making import INFO, make_batch


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def pictures(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.png")}


def test_grey_levels_names_and_index(tmp_path: Path) -> None:
    batch = make_batch(0, 3, skipped=1)
    batch.paths[:] = ["a/cat.jpg", "a/cat.png", "/elsewhere/caf\udcff.jpg"]
    with PngWriter(tmp_path / "out", INFO) as out:
        out.append(batch)
        out.finish()
    files = ["a/cat.jpg.0.png", "a/cat.png.1.png", "%2F/elsewhere/caf\udcff.jpg.2.png"]
    assert pictures(tmp_path / "out") == set(files)
    rows = lines(tmp_path / "out" / "maps.jsonl")
    assert [row["file"] for row in rows] == files
    assert [row["path"] for row in rows] == batch.paths
    assert rows[2]["crop_box"] == [2.0, 2.0, 3.5, 4.0]
    for row, saliency in zip(rows, batch.saliency, strict=True):
        with Image.open(tmp_path / "out" / str(row["file"])) as png:
            assert png.mode == "L"
            np.testing.assert_allclose(np.asarray(png) / 255, saliency, atol=0.5 / 255 + 1e-6)
    assert lines(tmp_path / "out" / "skipped.jsonl") == [
        {"path": "bad 0.jpg", "reason": "empty file"}
    ]
    assert json.loads((tmp_path / "out" / "info.json").read_text())["complete"] is True


def test_resume_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    with PngWriter(tmp_path, INFO) as out:
        out.append(make_batch(0, 3, skipped=1))
    with (tmp_path / "maps.jsonl").open("a") as stream:
        stream.write('{"path": "torn')
    with pytest.raises(LcamError, match="not empty"):
        PngWriter(tmp_path, INFO)
    with pytest.raises(LcamError, match="method"):
        PngWriter(tmp_path, dataclasses.replace(INFO, method="rise"), resume=True)
    with PngWriter(tmp_path, INFO, resume=True) as out:
        assert (out.paths, out.rows, out.complete) == (make_batch(0, 3).paths, 3, False)
        out.truncate(2, 1)
        assert len(pictures(tmp_path)) == 2
        out.append(make_batch(2, 3))
        out.finish()
    assert [row["class_index"] for row in lines(tmp_path / "maps.jsonl")] == [0, 1, 2, 3, 4]
    with PngWriter(tmp_path, INFO, resume=True) as out:
        assert out.complete


def test_overwrite_removes_the_older_maps_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with PngWriter(folder, INFO) as out:
        out.append(make_batch(0, 3))
    (folder / "mine.txt").touch()
    victim = tmp_path / "victim.png"
    victim.touch()
    with (folder / "maps.jsonl").open("a") as stream:
        row = {"path": "../victim", "class_index": 0, "file": "../victim.png"}
        stream.write(json.dumps(row) + "\n")
    with PngWriter(folder, dataclasses.replace(INFO, method="rise"), overwrite=True) as out:
        out.append(make_batch(7, 1))
    assert pictures(folder) == {"folder/ü 7.jpg.7.png"}
    assert (folder / "mine.txt").exists()
    assert victim.exists()


def test_resume_refuses_other_classes(tmp_path: Path) -> None:
    with PngWriter(tmp_path, INFO) as out:
        out.append(make_batch(0, 1))
    assert lines(tmp_path / "info.json")[0]["classes_explained"] == {"top_k": 1}
    other = dataclasses.replace(INFO, classes_explained={"classes": [2]})
    with pytest.raises(LcamError, match="holds other maps: they explain the predicted class"):
        PngWriter(tmp_path, other, resume=True)
    # An older version has not said which; then nothing is compared, nor known later.
    info = lines(tmp_path / "info.json")[0]
    del info["classes_explained"]
    (tmp_path / "info.json").write_text(json.dumps(info) + "\n")
    with PngWriter(tmp_path, other, resume=True) as out:
        assert out.rows == 1
    assert lines(tmp_path / "info.json")[0]["classes_explained"] == {}


def test_resume_refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(LcamError, match="not empty"):
        PngWriter(tmp_path, INFO, resume=True)
    (tmp_path / "info.json").write_text('{"name": "holiday"}\n')
    with pytest.raises(LcamError, match=r"info\.json"):
        PngWriter(tmp_path, INFO, resume=True)
