"""Texts in HDF5: written as bytes of a fixed width, read as if a stranger had written them."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

LONGEST_TEXT = 1 << 16
"""Bytes of a text; no system has longer paths, but a list of them may hold anything."""

# All texts of one dataset together: room for ten million paths.
_MOST_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 24
_OBJECT_BYTES = 64


def utf8(text: str) -> bytes:
    """Return the bytes of a text, those of a file name as they are on disk."""
    return text.encode("utf-8", "surrogateescape")


def clip_text(text: str, width: int) -> bytes:
    """Return the bytes of a text cut to ``width`` bytes, between two characters."""
    return utf8(text)[:width].decode("utf-8", "ignore").encode("utf-8")


def text_type(width: int) -> np.dtype[Any]:
    """Return the type of texts of at most ``width`` bytes."""
    kind: np.dtype[Any] = h5py.string_dtype("utf-8", max(width, 1))
    return kind


def read_texts(dataset: h5py.Dataset, start: int, stop: int) -> list[str]:
    """Read rows of texts a block at a time, so that no claim about their size is believed.

    Raises:
        ValueError: They are more than memory should hold.
    """
    # A text of variable length lies in the file, or in a shard, and is no longer than that.
    fixed = h5py.check_string_dtype(dataset.dtype).length
    in_file = _BLOCK_BYTES if dataset.is_virtual else dataset.file.id.get_filesize()
    block = max(1, _BLOCK_BYTES // (fixed or in_file))
    texts: list[str] = []
    taken = 0
    for first in range(start, stop, block):
        for raw in dataset[first : min(first + block, stop)]:
            texts.append(bytes(raw).decode("utf-8", "surrogateescape"))
            taken += len(raw) + _OBJECT_BYTES
        if taken > _MOST_BYTES:
            name = dataset.name.lstrip("/")
            raise ValueError(f"{name} holds more than {_MOST_BYTES >> 30} GiB of text")
    return texts
