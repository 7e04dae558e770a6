"""The names of all classes of a classifier, stored once a file."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.checks import Kind, check_stored
from lcam_cli.maps.hdf5.texts import read_texts, text_type, utf8

CLASSES = "classes"
"""The dataset: not of rows, as all others."""

_MOST_CLASSES = 1 << 20
_MOST_BYTES = 1 << 28


def write_class_names(group: h5py.Group, names: Sequence[str]) -> None:
    """Write them, unless they are not known."""
    if names:
        texts = [utf8(name) for name in names]
        kind = text_type(max(map(len, texts)))
        # A thousand names, mostly blanks behind short ones, take some 10 kB so.
        group.create_dataset(
            CLASSES, data=np.array(texts, kind), compression="gzip", track_times=False
        )


def read_class_names(group: h5py.Group) -> tuple[str, ...]:
    """Return them; none where the file does not have them.

    Raises:
        LcamError: What there is are no such names; the message lacks the file's name.
    """
    if CLASSES not in group:
        return ()
    check_stored(group, CLASSES, Kind(1))
    names = group[CLASSES]
    if len(names) > _MOST_CLASSES or len(names) * names.dtype.itemsize > _MOST_BYTES:
        raise LcamError(f"{CLASSES} has {len(names)} names")
    return tuple(read_texts(names, 0, len(names)))


def copy_class_names(old: h5py.Group, new: h5py.Group) -> None:
    """Copy them, where a file has them; shards of one run have the same."""
    if CLASSES in old:
        old.copy(CLASSES, new)
