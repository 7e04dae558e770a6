"""A gallery's files: what they say, that names do nothing, and that memory stays."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcam_cli.measures.measure import Quantity
from lcam_cli.measures.registry import find_measure
from lcam_cli.measures.scored import ScoredBatch
from lcam_cli.reports.entries import LARGEST_SIDE, PARTS
from lcam_cli.reports.gallery import Gallery, GalleryInfo
from lcam_cli.reports.page import FILES, PageFolder
from tests.reports.sample import Between

NAMES = ["cat", "dog"]
MEASURED = [Quantity(find_measure("ad"), 50.0), Quantity(Between(), None)]
NASTY = '</script><script>alert(1)</script>\u2028"\\\udcff.jpg'


def shown(side: int = 8, methods: int = 2) -> GalleryInfo:
    return GalleryInfo(
        [f"m{k}" for k in range(methods)],
        None,
        (50.0, 12.5),
        (0, 0, 0),
        (side, side),
        NAMES,
        MEASURED,
    )


def batch(
    paths: list[str], side: int = 8, methods: int = 2, seed: int = 0, names: list[str] = NAMES
) -> ScoredBatch:
    rng = np.random.default_rng(seed)
    B = len(paths)
    classes = np.arange(B, dtype=np.int32) % 2
    return ScoredBatch(
        images=rng.integers(0, 256, (B, side, side, 3), np.uint8),
        paths=paths,
        class_index=classes,
        class_names=[names[k] for k in classes],
        predicted_index=np.zeros(B, np.int32),
        full=rng.random(B, np.float32),
        saliency=[rng.random((B, side, side), np.float32) for _ in range(methods)],
        masked=rng.random((methods, 2, B), np.float32),
        numbers=rng.random((methods, 3, B), np.float32),
        mean_saliency=rng.random((methods, B), np.float32),
        flat=np.zeros((methods, B), np.bool_),
    )


def written(folder: Path, *batches: ScoredBatch, side: int = 8) -> dict[str, Any]:
    gallery = Gallery(PageFolder(folder, parts=PARTS), shown(side))
    for one in batches:
        gallery.add(one)
    gallery.finish()
    text = (folder / FILES / "data.js").read_text("ascii")
    # JavaScript, not JSON: the name of the variable, unquoted keys, a comma before the end.
    found = re.fullmatch(r"var lcamReport=\{entries:\[\n(.*)\],run:(.*)\};\n", text, re.DOTALL)
    assert found
    entries = [json.loads(line.removesuffix(",")) for line in found[1].splitlines()]
    return {"run": json.loads(found[2]), "entries": entries}


def maps_of(folder: Path, entry: int) -> list[np.ndarray[Any, Any]]:
    text = (folder / FILES / "maps" / f"{entry:06}.js").read_text("ascii")
    call = re.fullmatch(r"lcamMaps\((\d+),(\[.*\])\);\n", text)
    assert call
    assert int(call[1]) == entry
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in json.loads(call[2])
    ]


def test_the_files_say_what_was_measured(tmp_path: Path) -> None:
    rows = batch(["a.jpg", "b/c.jpg"])
    data = written(tmp_path, rows)
    assert data["run"]["nus"] == [50, 12.5]
    assert (data["run"]["height"], data["run"]["width"]) == (8, 8)
    path, picture, index, name, predicted, full, masked, numbers, *others = data["entries"][1]
    assert (path, picture, index, name, predicted) == ("b/c.jpg", 1, 1, "dog", "cat")
    assert others == [0, "", None], "the predicted class; no original and no label"
    assert full == pytest.approx(rows.full[1], abs=1e-5)
    assert np.array(masked) == pytest.approx(rows.masked[:, :, 1], abs=1e-5)
    first, second = rows.numbers[:, 1, 1], rows.numbers[:, 2, 1]
    expected = np.stack([rows.numbers[:, 0, 1], first - second], 1)
    np.testing.assert_allclose(numbers, expected, atol=0.0051)  # as tables show them
    assert data["run"]["measured"] == [
        {"measure": "AD", "column": "ad_50", "nu": 50, "lower": True, "digits": 2},
        {"measure": "between", "column": "between", "nu": None, "lower": False, "digits": 2},
    ]
    assert data["entries"][0][4] is None, "the class explained is the predicted one"
    for levels, saliency in zip(maps_of(tmp_path, 1), rows.saliency, strict=True):
        np.testing.assert_array_equal(levels, np.rint(saliency[1] * np.float32(255)))
    picture_file = Image.open(tmp_path / FILES / "images" / "000001.jpg")
    assert picture_file.size == (8, 8)


def test_maps_of_pixels_are_drawn_to_a_percentile_and_kept_as_they_are(tmp_path: Path) -> None:
    gallery = Gallery(
        PageFolder(tmp_path, parts=PARTS), replace(shown(8), methods=["cam", "saliency"])
    )
    rows = batch(["a.jpg"])
    gallery.add(rows)
    gallery.finish()
    assert '"percentiles":[null,99]' in (tmp_path / FILES / "data.js").read_text("ascii")
    for levels, saliency in zip(maps_of(tmp_path, 0), rows.saliency, strict=True):
        np.testing.assert_array_equal(levels, np.rint(saliency[0] * np.float32(255)))


def test_what_is_not_defined_is_null(tmp_path: Path) -> None:
    rows = batch(["a.jpg"])
    rows.numbers[1, 2, 0] = np.nan  # a part
    (entry,) = written(tmp_path, rows)["entries"]
    assert entry[7][1][1] is None
    assert None not in (entry[7][0] + entry[7][1][:1])


def test_the_classes_of_a_picture_share_it(tmp_path: Path) -> None:
    data = written(tmp_path, batch(["a.jpg", "a.jpg"]), batch(["a.jpg", "b.jpg"], seed=1))
    assert [entry[1] for entry in data["entries"]] == [0, 0, 0, 1]
    assert len(list((tmp_path / FILES / "images").iterdir())) == 2
    assert len(list((tmp_path / FILES / "maps").iterdir())) == 4


def test_large_inputs_are_reduced(tmp_path: Path) -> None:
    side = 2 * LARGEST_SIDE
    data = written(tmp_path, batch(["a.jpg"], side), side=side)
    assert (data["run"]["height"], data["run"]["width"]) == (LARGEST_SIDE, LARGEST_SIDE)
    assert {levels.shape for levels in maps_of(tmp_path, 0)} == {(LARGEST_SIDE, LARGEST_SIDE)}
    assert Image.open(tmp_path / FILES / "images" / "000000.jpg").width == LARGEST_SIDE


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    data = written(tmp_path, batch([NASTY, "b.jpg"], names=["</script>", "<b>"]))
    text = (tmp_path / FILES / "data.js").read_text("ascii")
    assert "<" not in text
    assert "\u2028" not in text
    assert data["entries"][0][0].startswith("</script><script>alert(1)</script>")
    assert data["entries"][0][3] == "</script>"
    assert sorted(p.name for p in tmp_path.iterdir()) == [FILES]


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        gallery = Gallery(PageFolder(tmp_path / str(rows), parts=PARTS), shown(32))
        one = batch(["x"], 32)
        gallery.add(one)
        tracemalloc.start()
        for k in range(rows):
            one.paths[:] = [f"{k:0200}"]  # type: ignore[index]
            gallery.add(one)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gallery.finish()
        return most

    few, many = peak(20), peak(400)
    assert many < few + 20_000, "400 rows of two maps are 800,000 bytes, their paths 80,000"


def test_rectangles_keep_their_shape(tmp_path: Path) -> None:
    info = GalleryInfo(["m0"], None, (50.0,), (0, 0, 0), (180, 320), NAMES, MEASURED)
    rng = np.random.default_rng(0)
    square = batch(["a.jpg"], methods=1)
    given = dataclasses.replace(
        square,
        images=rng.random((1, 180, 320, 5), np.float32),  # of five channels the first three
        saliency=[rng.random((1, 180, 320), np.float32)],
    )
    gallery = Gallery(PageFolder(tmp_path, parts=PARTS), info)
    gallery.add(given)
    gallery.finish()
    files = tmp_path / "lcam-files"
    assert Image.open(files / "images" / "000000.jpg").size == (256, 144)
    script = (files / "maps" / "000000.js").read_text()
    (encoded,) = json.loads(script[script.index("[") : script.rindex("]") + 1])
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (256, 144)
    assert '"height":144' in (files / "data.js").read_text().replace(" ", "")
