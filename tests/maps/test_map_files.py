"""Maps at the image's own size, in every format, by maps made by hand."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli.errors import LcamError
from lcam_cli.maps.map_files import MapFormat, MapSize, at_original_size, encoded_map
from lcam_cli.maps.png import PngWriter
from lcam_cli.maps.png_encoder import encode_png, encode_png_in_bands
from tests.maps.making import INFO, make_batch

RAMP = np.array([[0, 0.25, 0.5, 1]], np.float32)


def test_the_map_lies_where_the_network_looked() -> None:
    whole = at_original_size(RAMP, (0, 0, 4, 1), (4, 1))
    np.testing.assert_array_equal(whole, RAMP)
    crop = at_original_size(RAMP, (2, 1, 6, 2), (8, 3))
    assert np.isnan(crop[[0, 2]]).all()
    assert np.isnan(crop[1, [0, 1, 6, 7]]).all()
    np.testing.assert_array_equal(crop[1, 2:6], RAMP[0])
    # Twice as wide: a pixel's two halves lie a quarter to either side of its centre.
    wide = at_original_size(RAMP, (0, 0, 8, 1), (8, 1))
    expected = np.array([0, 0.0625, 0.1875, 0.3125, 0.4375, 0.625, 0.875, 1])
    np.testing.assert_allclose(wide[0], expected, atol=1e-6)
    # Padded: the image is the middle half of the view.
    padded = at_original_size(RAMP, (-1, 0, 3, 1), (2, 1))
    np.testing.assert_array_equal(padded, RAMP[:, 1:3])


def read(data: bytes, map_format: MapFormat) -> np.ndarray:
    if map_format == "npy":
        return np.load(io.BytesIO(data), allow_pickle=False)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == ("TIFF" if map_format == "tiff" else "PNG")
        return np.asarray(picture)


@pytest.mark.parametrize(
    ("map_format", "dtype", "highest"),
    [("png", np.uint8, 255), ("png16", np.uint16, 65535), ("tiff", "f4", 1), ("npy", "f4", 1)],
)
def test_formats_keep_what_they_can(map_format: MapFormat, dtype: type, highest: int) -> None:
    V = np.random.default_rng(0).random((7, 5), np.float32)
    V[0] = np.nan
    values = read(encoded_map(V, map_format), map_format)
    if highest == 1:
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, V)
        return
    assert (values[0] == 0).all(), "what was not seen"
    np.testing.assert_array_equal(values[1:].astype(int), np.rint(V[1:] * np.float32(highest)))


def test_16_bits_survive_the_filter_in_bands_too() -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, (9, 11)).astype(np.uint16)
    with Image.open(io.BytesIO(encode_png(pixels))) as whole:
        assert whole.mode.startswith("I;16")
        np.testing.assert_array_equal(np.asarray(whole), pixels)
    joined = b"".join(encode_png_in_bands(9, [pixels[:4], pixels[4:]]))
    with Image.open(io.BytesIO(joined)) as banded:
        np.testing.assert_array_equal(np.asarray(banded), pixels)


@pytest.mark.parametrize("map_format", ["png16", "tiff", "npy"])
def test_a_folder_of_them_goes_on_and_refuses_others(tmp_path: Path, map_format: MapFormat) -> None:
    batch = make_batch(1, 3)
    batch.crop_box[:] = (0, 0, 10, 12)
    batch.sizes = np.tile(np.array([[10, 12]], np.int32), (3, 1))
    size: MapSize = "original"
    with PngWriter(tmp_path / "m", INFO, map_format=map_format, map_size=size) as writer:
        writer.append(batch)
    with PngWriter(
        tmp_path / "m", INFO, map_format=map_format, map_size=size, resume=True
    ) as writer:
        assert writer.rows == 3
        writer.truncate(2, 0)
        writer.finish()
    lines = [json.loads(line) for line in (tmp_path / "m" / "maps.jsonl").open()]
    files = sorted(str(path.relative_to(tmp_path / "m")) for path in (tmp_path / "m").rglob("ü*"))
    assert [line["file"] for line in lines] == files
    for line, V in zip(lines, batch.saliency[:2], strict=True):
        values = read((tmp_path / "m" / line["file"]).read_bytes(), map_format)
        assert values.shape == (12, 10)
        scale = 65535 if map_format == "png16" else 1
        expected = at_original_size(V, (0, 0, 10, 12), (10, 12)) * scale
        np.testing.assert_allclose(values, expected, atol=0.51 if scale > 1 else 0)
    for other in ({"map_format": "png"}, {"map_size": "input"}):
        words = {"map_format": map_format, "map_size": size, **other}
        with pytest.raises(LcamError, match=r"map_(format|size) is '"):
            PngWriter(tmp_path / "m", INFO, resume=True, **words)  # type: ignore[arg-type]


def test_flat_maps_are_known_at_either_size(tmp_path: Path) -> None:
    batch = make_batch(1, 1)
    batch.saliency[:] = 0.3
    batch.crop_box[:] = (-2, 0, 12, 12)
    batch.sizes = np.array([[10, 12]], np.int32)
    with PngWriter(tmp_path / "m", INFO, map_format="tiff", map_size="original") as writer:
        writer.append(batch)
        assert writer.flat_summary() is not None
    with pytest.raises(ValueError, match="size of"):
        PngWriter(tmp_path / "n", INFO, map_size="original").append(
            dataclasses.replace(batch, sizes=None)
        )
