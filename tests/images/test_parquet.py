"""Tables of images: rows are the files they hold, in place, whatever the file claims."""

from __future__ import annotations

import contextlib
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.decoder import Decoder, read_whole
from lcam_cli.images.find import find_images
from lcam_cli.images.request import Request

MANY = 10**8


def picture(grey: int, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), (grey, 0, 255 - grey)).save(buffer, kind, **options)
    return buffer.getvalue()


def greys(paths: list[str]) -> list[int]:
    return [read_whole(path, MANY).getpixel((0, 0))[0] for path in paths]


def as_datasets(pictures: list[bytes | None], path: str | None = "x.png") -> pa.Array:
    """A column as Hugging Face's datasets writes it."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.array([{"bytes": one, "path": path} for one in pictures], kind)


def reason(path: str) -> str:
    with pytest.raises(BadImageError) as error:
        read_whole(path, MANY)
    return error.value.reason


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_in_any_order_are_the_files_they_hold() -> None:
    """Over the ends of row groups and of the few rows that are decoded at once."""
    pictures = [picture(grey, ("PNG", "BMP", "TIFF")[grey % 3]) for grey in range(100)]
    table = pa.table({"label": list(range(100)), "image": as_datasets(pictures)})
    pq.write_table(table, "x.parquet", row_group_size=41)
    found = find_images(["x.parquet"])
    assert found.paths == [f"x.parquet#{row}" for row in range(100)]
    assert found.passed_over.lines() == []
    assert greys(found.paths) == list(range(100))
    order = random.Random(0).sample(range(100), 60)
    assert greys([found.paths[row] for row in order]) == order


@pytest.mark.parametrize(
    "column",
    [
        pa.array([picture(1), picture(2)]),
        pa.array([picture(1), picture(2)], pa.large_binary()),
        pa.array([picture(1), picture(2)]).dictionary_encode(),
        pa.array([{"bytes": picture(1)}, {"bytes": picture(2)}]),
    ],
    ids=["binary", "large", "dictionary", "struct"],
)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_columns_of_other_types(column: pa.Array, compression: str) -> None:
    pq.write_table(
        pa.table({"text": ["a", "b"], "Image": column}), "x.parquet", compression=compression
    )
    assert greys(find_images(["x.parquet"]).paths) == [1, 2]


def test_of_several_columns_the_first_is_read_and_that_is_said() -> None:
    columns = {"raw": [b"1"], "photo": as_datasets([picture(7)]), "mask": as_datasets([b"x"])}
    pq.write_table(pa.table(columns), "x.parquet")
    found = find_images(["x.parquet"])
    assert greys(found.paths) == [7]
    assert found.passed_over.lines() == [
        "x.parquet: its column photo is read, but not mask",
    ]


def test_rows_without_a_picture(folder: Path) -> None:
    """Paths in a table are never opened, though they lead to an image."""
    (folder / "there.png").write_bytes(picture(1))
    rows = as_datasets([picture(3), None, b"no picture", b""], str(folder / "there.png"))
    rows = pa.concat_arrays([rows, pa.nulls(1, rows.type)])
    pq.write_table(pa.table({"image": rows}), "x.parquet")
    assert greys(["x.parquet#0"]) == [3]
    assert reason("x.parquet#1") == "no image in its row (paths in a table are not followed)"
    assert reason("x.parquet#2") == "not an image, or damaged at its start"
    assert reason("x.parquet#3") == "not an image, or damaged at its start"
    assert reason("x.parquet#4") == "no image in its row (paths in a table are not followed)"
    assert reason("x.parquet#5") == "there is no image 5 in it: it holds 5"


@pytest.mark.parametrize(
    "columns",
    [
        {"label": [1, 2], "path": ["a.jpg", "b.jpg"]},
        {"embedding": [b"1", b"2"]},
        {"image": ["a.jpg", "b.jpg"]},
        {"images": pa.array([[picture(1), picture(2)]], pa.list_(pa.binary()))},
        {"image": as_datasets([])},
        {},
    ],
    ids=["labels", "bytes", "paths", "nested", "no rows", "no columns"],
)
def test_tables_of_other_things(columns: dict[str, Any], folder: Path) -> None:
    """Named, they are skipped with the reason; in a folder of images they are told."""
    pq.write_table(pa.table(columns), "x.parquet")
    (folder / "a.png").write_bytes(picture(1))
    named = find_images(["a.png", "x.parquet"])
    assert [(one.path, one.reason) for one in named.skipped] == [
        ("x.parquet", "a table without images")
    ]
    found = find_images(["."])
    assert found.paths == ["./a.png"]
    assert found.skipped == []
    assert found.passed_over.lines() == ["skipped 1 table without images: ./x.parquet"]
    with pytest.raises(LcamError, match=r"no images to work on: x\.parquet: a table without"):
        find_images(["x.parquet"])


def test_damaged_tables(folder: Path) -> None:
    pictures = [picture(grey, "BMP") for grey in range(60)]
    table = pa.table({"image": as_datasets(pictures)})
    pq.write_table(table, "x.parquet", compression="none", use_dictionary=False)
    whole = Path("x.parquet").read_bytes()
    content = {
        "cut": whole[:-100],
        "text": b"no table at all",
        "encrypted": b"PARE" + whole[4:-4] + b"PARE",
        "footer": whole[:-8] + (1 << 31).to_bytes(4, "little") + b"PAR1",
    }
    for name, data in content.items():
        Path(f"{name}.parquet").write_bytes(data)
    found = find_images([f"{name}.parquet" for name in ("x", *content)])
    assert len(found.paths) == 60
    assert {one.path.removesuffix(".parquet"): one.reason for one in found.skipped} == {
        "cut": "a damaged Parquet file",
        "text": "not a table of images, or damaged at its start",
        "encrypted": "an encrypted Parquet file",
        "footer": "a damaged Parquet file",
    }
    # Damage at a place costs what lies there, and no more than the file.
    at = whole.index(pictures[30]) - 4
    Path("x.parquet").write_bytes(whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4 :])
    assert greys(["x.parquet#3"]) == [3]
    assert reason("x.parquet#40") == "a damaged Parquet file"
    assert greys(["x.parquet#4"]) == [4]


def test_a_few_kilobytes_that_unpack_to_gigabytes() -> None:
    """The same 100 MB in every row: 16 rows are decoded at once."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 999), pa.array([bytes(100_000_000)]))
    table = pa.table({"image": column})
    pq.write_table(table, "x.parquet", compression="zstd", store_schema=False)
    assert Path("x.parquet").stat().st_size < 100_000
    assert reason("x.parquet#17") == "not enough memory to decode it"


def test_a_file_that_is_replaced_is_read_anew() -> None:
    for grey in (1, 2):
        pq.write_table(pa.table({"image": as_datasets([picture(grey)])}), "new.parquet")
        Path("new.parquet").replace("x.parquet")
        assert greys(["x.parquet#0"]) == [grey]


@pytest.mark.parametrize("group", [1250, 60])
def test_memory_does_not_grow_with_rows_or_row_groups(group: int) -> None:
    """1,250 rows of 80 kB, 100 MB, take the memory of what is kept: 16 MB, scattered."""
    noise = np.random.default_rng(0).integers(0, 256, 80_000, np.uint8).tobytes()
    pictures = [picture(k % 256, "BMP") + noise[: 80_000 - k] for k in range(1250)]
    table = pa.table({"image": as_datasets(pictures)})
    pq.write_table(table, "x.parquet", compression="none", row_group_size=group)
    with contextlib.closing(Decoder()) as decoder:  # one that has read nothing else
        peaks = []
        for row in range(1250):
            decoder.read(Request(f"x.parquet#{row}", MANY))
            if row in (625, 1249):
                peaks.append(_peak(decoder._process.pid))
    print(f"peak of the reading process after 625 and 1,250 rows: {peaks} kB")
    assert peaks[1] - peaks[0] < 25_000


def _peak(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])
