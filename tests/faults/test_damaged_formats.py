"""Damaged files of deep images, tables and HEIC: each is explained or listed with a reason."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pillow_heif
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from tests.faults.counts import count
from tests.faults.damage import SIZE, damaged, flipped
from tests.faults.many import Commands

COUNT = count(60, 500)
OWN = "from tests.tiny import tiny_network as net\n"
EXPLAIN = ["explain", "--backbone", "own.py:net", "--weights", "none", "--image-size", "32"]
EXPLAIN += ["--method", "gradcam", "--overwrite", "--workers", "2", "--device", "cpu"]
_GIB = 1 << 20
"""In KiB."""


def _deep(channels: int = 1) -> np.ndarray[Any, Any]:
    width, height = SIZE
    rng = np.random.default_rng(channels)
    ramp = np.linspace(0, 60_000, width * height * channels).reshape(height, width, channels)
    values = (ramp + rng.integers(0, 5000, ramp.shape)).astype(np.uint16)
    return values[..., 0] if channels == 1 else values


def _saved(save: Callable[[io.BytesIO], Any]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _pngs() -> list[bytes]:
    deep = Image.fromarray(_deep())
    return [_saved(lambda b: deep.save(b, "PNG")), _saved(lambda b: deep.save(b, "PNG", level=9))]


def _tiffs() -> list[bytes]:
    colour, channels = _deep(3), _deep(5)
    ways: list[tuple[Any, dict[str, Any]]] = [
        (colour, {"photometric": "rgb"}),
        (colour, {"photometric": "rgb", "compression": "lzw", "predictor": True}),
        (colour, {"photometric": "rgb", "tile": (32, 32), "compression": "zlib"}),
        (colour, {"photometric": "rgb", "bigtiff": True, "compression": "zstd"}),
        (colour.astype(np.float32), {"photometric": "rgb", "byteorder": ">"}),
        (channels, {"photometric": "minisblack", "planarconfig": "contig"}),
        (np.moveaxis(channels, -1, 0).copy(), {"imagej": True, "metadata": {"axes": "CYX"}}),
        (np.moveaxis(channels, -1, 0).copy(), {"ome": True, "metadata": {"axes": "CYX"}}),
        (_deep(), {}),
    ]
    return [_saved(lambda b, a=a, o=o: tifffile.imwrite(b, a, **o)) for a, o in ways]


def _arrays() -> list[bytes]:
    arrays = [_deep(), _deep(3), _deep(3).astype(np.float32), (_deep(3) >> 8).astype(np.uint8)]
    return [_saved(lambda b, a=a: np.save(b, a)) for a in (*arrays, np.asfortranarray(_deep(3)))]


def _heics() -> list[bytes]:
    plain = pillow_heif.from_pillow(Image.fromarray((_deep(3) >> 8).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x112] = 6
    deep = _deep(3).tobytes()
    return [
        _saved(lambda b: plain.save(b, quality=80)),
        _saved(lambda b: plain.save(b, quality=80, exif=exif.tobytes())),
        _saved(lambda b: pillow_heif.encode("RGB;16", SIZE, deep, b, quality=80)),
    ]


def _tables() -> list[bytes]:
    picture = Image.fromarray((_deep(3) >> 8).astype(np.uint8)).resize((30, 20))
    kinds = ("JPEG", "PNG", "BMP")
    files = [_saved(lambda b, k=kind: picture.save(b, k)) for kind in kinds * 2]
    as_datasets = pa.table({"image": [{"bytes": f, "path": "x"} for f in files], "y": [1] * 6})
    plain = pa.table({"image": pa.array(files)})
    ways: list[tuple[pa.Table, dict[str, Any]]] = [
        (as_datasets, {}),
        (as_datasets, {"compression": "zstd", "row_group_size": 2}),
        (as_datasets, {"compression": "none", "use_dictionary": False}),
        (plain, {"use_dictionary": False, "data_page_version": "2.0"}),
        (plain, {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}),
        (plain, {"use_dictionary": False, "column_encoding": "DELTA_LENGTH_BYTE_ARRAY"}),
    ]
    return [_saved(lambda b, t=t, o=o: pq.write_table(t, b, **o)) for t, o in ways]


FAMILIES = {"png": _pngs, "tif": _tiffs, "npy": _arrays, "heic": _heics, "parquet": _tables}


@pytest.mark.slow
@pytest.mark.parametrize("extension", FAMILIES)
def test_each_is_explained_or_listed(tmp_path: Path, lcam: Commands, extension: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    blobs = FAMILIES[extension]()
    rng = random.Random(extension)
    for folder in ("good", "bad"):
        (tmp_path / folder).mkdir()
    for k in range(COUNT):
        name = f"{k:04}.{extension}"
        (tmp_path / "good" / name).write_bytes(blobs[k % len(blobs)])
        (tmp_path / "bad" / name).write_bytes(_damaged(rng, blobs))
    good = lcam(tmp_path, [*EXPLAIN, "good", "--out", "good.h5"])
    with h5py.File(tmp_path / "good.h5") as file:
        whole = {reason.decode() for reason in file["skipped/reason"][:]}
    assert whole <= {"it has 5 channels, but the network takes 3"}, good.err
    bad = lcam(tmp_path, [*EXPLAIN, "bad", "--out", "bad.h5"])
    assert bad.code == 3, bad.err
    assert "internal" not in bad.err
    with h5py.File(tmp_path / "bad.h5") as file:
        explained = [path.decode() for path in file["path"][:]]
        listed = [path.decode() for path in file["skipped/path"][:]]
        reasons = [reason.decode() for reason in file["skipped/reason"][:]]
        assert file.attrs["complete"]
    other = re.search(r"(\d+) tables? without images", bad.err)
    told = int(other[1]) if other else 0
    files = {path.partition("#")[0] for path in explained + listed}
    print(f"{extension}: {COUNT} files, {len(explained)} images explained, {len(listed)} listed")
    print(f"with {len(set(reasons))} reasons: {sorted(set(reasons))}; {told} tables without")
    crashed = sum("crashed" in reason for reason in reasons)
    print(f"{crashed} crashes of a decoder; {bad.memory} KiB, {good.memory} with good pictures")
    assert len(files) + told == COUNT
    assert all(0 < len(reason) < 100 and "\n" not in reason for reason in reasons)
    assert not any("hung" in reason for reason in reasons)
    assert len(explained) > COUNT / 50
    assert len(listed) > COUNT / 10
    assert bad.memory < good.memory + 1.5 * _GIB


def _damaged(rng: random.Random, blobs: list[bytes]) -> bytes:
    """As any image's bytes are; or near the end, where tables say what they hold."""
    if rng.random() < 0.3:
        return flipped(rng, rng.choice(blobs)[::-1])[::-1]
    return damaged(rng, blobs, SIZE)
