"""A folder of PNG, as ``lcam explain --out DIR`` writes it, read as a maps file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.names import INFO_NAME, ROWS_NAME, output_name
from lcam_cli.maps.png import SCHEMA, read_lines
from lcam_cli.maps.record import Floats, MapBatch, MapDtype, MapsInfo

_AT_ONCE = 64  # maps in memory
_WHITE = {"L": 255, "I;16": 65535}  # by Pillow's mode
_MAKE_ONE = "pass the whole folder that lcam explain … --out DIR wrote, or a maps file (*.h5)"


@contextmanager
def open_maps(path: Path, method: str | None = None) -> Iterator[MapsFile]:
    """Open a maps file, or a folder of PNG, whose maps have 8 or 16 bits, as one.

    Args:
        path: The file, or the folder; that of ``lcam explain --out DIR`` holds it as ``maps``.
        method: Whose maps, in a file of several methods.

    Raises:
        LcamError: It is neither, or a PNG is missing or of another size than the others.
    """
    if not path.is_dir():
        with MapsFile(path, method) as file:
            yield file
        return
    folder = path / "maps" if (path / "maps" / INFO_NAME).is_file() else path
    if not (folder / INFO_NAME).is_file():
        raise LcamError(f"{path} is a folder without {INFO_NAME}: not one of maps", _MAKE_ONE)
    with TemporaryDirectory(prefix="lcam-") as temporary:
        copy = Path(temporary, "maps.h5")
        _copy(folder, copy)
        with MapsFile(copy, method) as file:
            file.path = folder / INFO_NAME  # what messages name, and images lie beside
            yield file


def _copy(folder: Path, target: Path) -> None:
    """Write a maps file with the maps of a folder."""
    saved = next(read_lines(folder / INFO_NAME), {})
    lines = list(read_lines(folder / ROWS_NAME))
    if saved.get("schema") != SCHEMA:
        raise _refused(folder, INFO_NAME)
    _check_form(folder, saved)
    if not lines:
        raise LcamError(f"{folder} holds no maps", "explain some images first")
    names = {field.name for field in dataclasses.fields(MapsInfo)}
    try:
        info = MapsInfo(**{name: saved[name] for name in names & saved.keys()})
        info = dataclasses.replace(info, shard=None, classes=tuple(info.classes))
        size = _read(folder, lines[0]).shape
        # 16 bits are more than float16 has.
        map_dtype: MapDtype = "float32" if saved.get("map_format") == "png16" else "uint8"
        capacity = Capacity.of(
            [line["path"] for line in lines], {line["class_name"] for line in lines}
        )
        with Hdf5Writer(
            target, info, size=(size[0], size[1]), capacity=capacity, map_dtype=map_dtype
        ) as writer:
            for first in range(0, len(lines), _AT_ONCE):
                some = lines[first : first + _AT_ONCE]
                writer.append(_batch(folder, some, (size[0], size[1])))
            if saved.get("complete") is True:
                writer.finish()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _refused(folder, f"{INFO_NAME} or {ROWS_NAME}") from error


def _check_form(folder: Path, saved: Mapping[str, Any]) -> None:
    """Refuse files that measures cannot use: they need the map that the network's input has."""
    made = [("map_size", ("input",)), ("map_format", ("png", "png16"))]
    for name, known in made:
        value = saved.get(name, known[0])
        if value not in known:
            option = f"--{name.replace('_', '-')}"
            raise LcamError(
                f"the maps in {folder} were written with {option} {value}, so they cannot be "
                "evaluated",
                f"explain again with {option} {known[0]}, or into an HDF5 file: --out maps.h5",
            )


def _batch(folder: Path, lines: Sequence[dict[str, Any]], size: tuple[int, int]) -> MapBatch:
    maps = []
    for line in lines:
        grey = _read(folder, line)
        if grey.shape != size:
            raise LcamError(
                f"{_file(folder, line)} has {grey.shape[0]}×{grey.shape[1]} pixels, the first map "
                f"{size[0]}×{size[1]}",
                "leave the PNGs as lcam explain wrote them",
            )
        maps.append(grey)
    return MapBatch(
        paths=[line["path"] for line in lines],
        class_index=np.array([line["class_index"] for line in lines], np.int32),
        predicted_index=np.array([line["predicted_index"] for line in lines], np.int32),
        class_names=[line["class_name"] for line in lines],
        confidence=np.array([line["confidence"] for line in lines], np.float32),
        crop_box=np.array([line["crop_box"] for line in lines], np.float32),
        saliency=np.stack(maps),
        cam=None,
    )


def _file(folder: Path, line: dict[str, Any]) -> Path:
    # The name is made anew: a line from elsewhere could name any file.
    return folder / output_name(line["path"], line["class_index"], "png")


def _read(folder: Path, line: dict[str, Any]) -> Floats:
    """Return V of a line, float32 (H, W) in [0, 1]."""
    file = _file(folder, line)
    try:
        with Image.open(file, formats=["PNG"]) as image:
            if image.mode not in _WHITE:
                raise LcamError(f"{file} is not a map: it is not a grey PNG", _MAKE_ONE)
            return np.asarray(image, np.float32) / np.float32(_WHITE[image.mode])
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is not a PNG, or it is damaged"
        raise LcamError(f"cannot read the map {file}: {reason}", _MAKE_ONE) from error


def _refused(folder: Path, name: str) -> LcamError:
    return LcamError(f"{folder}: {name} is not what lcam writes", _MAKE_ONE)
