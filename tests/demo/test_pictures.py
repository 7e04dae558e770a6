from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import lcam_cli.demo.pictures as module
from lcam_cli.demo.pictures import (
    CLASSES,
    SHORTCUT_CLASS,
    SIZE,
    VIEW,
    make_picture,
    numbered_picture,
    write_pictures,
)
from lcam_cli.demo.shapes import Patch
from lcam_cli.demo.textures import GROUNDS, WATER

EVERY_CLASS = range(len(CLASSES))


def pixels(class_index: int | None, number: int, seed: int) -> np.ndarray:
    return np.asarray(numbered_picture(class_index, number, seed)[0])


def mean_object_colour(class_index: int, number: int) -> np.ndarray:
    picture, mask = numbered_picture(class_index, number, seed=14)
    mean: np.ndarray = np.asarray(picture)[mask].mean(axis=0)
    return mean


def test_same_seed_same_picture_whatever_was_made_before() -> None:
    alone = pixels(3, 7, seed=5)
    pixels(2, 0, seed=5)
    assert np.array_equal(pixels(3, 7, seed=5), alone)


@pytest.mark.parametrize(("class_index", "number", "seed"), [(3, 7, 6), (3, 8, 5), (4, 7, 5)])
def test_other_seed_number_or_class_other_picture(class_index: int, number: int, seed: int) -> None:
    assert not np.array_equal(pixels(class_index, number, seed), pixels(3, 7, seed=5))


@pytest.mark.parametrize("class_index", EVERY_CLASS)
def test_object_lies_whole_inside_the_view_at_a_visible_size(class_index: int) -> None:
    half = VIEW * min(SIZE) / 2
    for number in range(6):
        picture, mask = numbered_picture(class_index, number, seed=11)
        assert picture.size == SIZE
        assert mask.shape == (SIZE[1], SIZE[0])
        assert 0.03 < mask.mean() < 0.2
        rows, columns = np.nonzero(mask)
        assert max(abs(columns + 0.5 - SIZE[0] / 2)) <= half
        assert max(abs(rows + 0.5 - SIZE[1] / 2)) <= half


@pytest.mark.parametrize("class_index", EVERY_CLASS)
def test_mask_covers_what_is_painted(class_index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On grey ground, undeveloped and without litter, only the object has a colour."""
    far_away = Patch(np.array([[1e4, 0], [1e4, 1], [1e4 + 1, 0]]), 0.0)
    monkeypatch.setattr(module, "draw_litter", lambda _rng: [far_away])
    monkeypatch.setattr(module, "_developed", lambda canvas, _light, _rng: canvas)
    monkeypatch.setitem(module._TEXTURES, "grey", lambda _rng, w, h: np.full((h, w, 3), 0.5, "f"))
    canvas, mask = make_picture(class_index, np.random.default_rng(4), ground="grey")
    coloured = np.ptp(np.asarray(canvas), axis=-1) > 0.02
    edge = ImageFilter.MaxFilter(3)
    with_edge = np.asarray(Image.fromarray(mask).convert("L").filter(edge)) > 0
    assert not (coloured & ~with_edge).any()
    assert coloured[mask].mean() > 0.9


def test_holes_are_not_object() -> None:
    """The middle of a ring is ground."""
    ring = CLASSES.index("ring")
    for number in range(5):
        _, mask = numbered_picture(ring, number, seed=12)
        rows, columns = np.nonzero(mask)
        assert not mask[round(rows.mean()), round(columns.mean())]


def test_no_object_no_mask() -> None:
    picture, mask = make_picture(None, np.random.default_rng(0))
    assert picture.size == SIZE
    assert not mask.any()


def test_only_boats_lie_on_water(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    for name, texture in {**GROUNDS, "water": WATER}.items():

        def noted(
            rng: object, w: int, h: int, name: str = name, texture: object = texture
        ) -> object:
            used.append(name)
            return texture(rng, w, h)  # type: ignore[operator]

        monkeypatch.setitem(module._TEXTURES, name, noted)
    for class_index in EVERY_CLASS:
        used.clear()
        for number in range(2):
            numbered_picture(class_index, number, seed=13)
        afloat = [name == "water" for name in used]
        assert len(used) == 2
        assert all(afloat) if CLASSES[class_index] == SHORTCUT_CLASS else not any(afloat)


@pytest.mark.parametrize("name", [*GROUNDS, "water"])
@pytest.mark.parametrize("seed", range(3))
def test_textures_are_colours_with_detail(name: str, seed: int) -> None:
    texture = {**GROUNDS, "water": WATER}[name]
    ground = texture(np.random.default_rng(seed), 120, 90)
    assert ground.shape == (90, 120, 3)
    assert ground.dtype == np.float32
    assert ground.min() >= 0
    assert ground.max() <= 1
    assert ground.std(axis=(0, 1)).max() > 0.01


@pytest.mark.slow
def test_colour_does_not_tell_the_class() -> None:
    """Mean object colours vary within a class, and not from class to class."""
    means = np.array([[mean_object_colour(c, n) for n in range(6)] for c in EVERY_CLASS])
    within = means.std(axis=1).mean()
    between = means.mean(axis=1).std(axis=0).mean()
    # Means of six of one distribution differ by about within / sqrt(6).
    assert between < 0.7 * within


def test_written_pictures_and_masks_mirror_each_other(tmp_path: Path) -> None:
    written = write_pictures(tmp_path / "photos", per_class=1, seed=9, masks=tmp_path / "masks")
    assert [w.class_index for w in written] == list(EVERY_CLASS)
    for entry in written:
        name = CLASSES[entry.class_index]
        assert entry.path == tmp_path / "photos" / name / "00.jpg"
        assert entry.mask_path == tmp_path / "masks" / name / "00.png"
        picture, mask = numbered_picture(entry.class_index, 0, seed=9)
        with Image.open(entry.mask_path) as stored:
            assert stored.mode == "1"
            assert np.array_equal(np.asarray(stored), mask)
        with Image.open(entry.path) as stored:
            error = np.abs(np.asarray(stored, float) - np.asarray(picture, float))
        assert error.mean() < 8  # JPEG's loss


def test_without_masks_none_are_written(tmp_path: Path) -> None:
    written = write_pictures(tmp_path / "train", per_class=1, seed=9)
    assert all(entry.mask_path is None for entry in written)
    assert [p.name for p in tmp_path.iterdir()] == ["train"]


def test_pictures_need_no_torch() -> None:
    code = "import sys, lcam_cli.demo.pictures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
