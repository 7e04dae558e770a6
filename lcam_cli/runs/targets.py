"""Files that options name for results: refused before any work is done."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from lcam_cli.errors import LcamError

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def is_hdf5(out: Path) -> bool:
    """Whether a name is that of a maps file, and not of a folder."""
    return out.suffix.lower() in HDF5_SUFFIXES


def check_target(
    path: Path | None, option: str, overwrite: bool, suffixes: tuple[str, ...] = ()
) -> None:
    """Refuse a file that cannot be written, or may not be.

    Args:
        path: The file; None where the option was not given.
        option: Its name, for messages.
        overwrite: Whether what is there may be replaced.
        suffixes: What the name may end in, the usual one first; nothing allows all.

    Raises:
        LcamError: It ends in something else, exists, or is a folder.
    """
    if path is None:
        return
    if suffixes and path.suffix.lower() not in suffixes:
        *some, last = suffixes
        known = f"{', '.join(some)} or {last}" if some else last
        raise LcamError(
            f"{option} {path} does not end in {known}", f"pass a name such as FILE{suffixes[0]}"
        )
    if path.exists() and not overwrite:
        raise LcamError(f"{path} exists", f"pass --overwrite or another {option}")
    if path.is_dir():
        raise LcamError(f"{option} {path} is a folder", "pass a file")


_NO_FOLDERS = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy"), "an image"),
    **dict.fromkeys((".pdf", ".svg"), "a figure"),
    **dict.fromkeys((".json", ".csv", ".md", ".tex", ".txt", ".parquet"), "a table"),
    **dict.fromkeys((".html", ".htm"), "a page"),
}


def check_maps_target(out: Path) -> None:
    """Refuse a name for maps that would be a folder, and is meant as something else.

    Raises:
        LcamError: It is called as an image, a figure, a table or a page is.
    """
    kind = _NO_FOLDERS.get(out.suffix.lower())
    if kind is None or out.is_dir():
        return
    instead = {
        "an image": f"for one PNG per map, pass a folder: --out {out.stem}",
        "a figure": "lcam compare draws one: --figure FILE",
        "a table": "lcam evaluate measures maps: lcam evaluate --out FILE",
        "a page": "lcam evaluate writes one: --report DIR",
    }[kind]
    raise LcamError(
        f"--out {out} has the name of {kind}, but maps are written to an HDF5 file or a folder",
        f"pass FILE.h5; {instead}",
    )


def check_apart(
    path: Path | None,
    option: str,
    others: Mapping[str, Path | str | Sequence[Path] | None],
) -> None:
    """Refuse a file that another option names too.

    Args:
        path: The file; None where the option was not given.
        option: Its name, for messages.
        others: What other options read or write, by option; one may name several files.

    Raises:
        LcamError: Both are the same file.
    """
    if path is None:
        return
    real = os.path.realpath(path)
    for another, other in others.items():
        named = [other] if isinstance(other, str | Path) else other or ()
        if real in map(os.path.realpath, named):
            raise LcamError(
                f"{option} and {another} name the same file, {path}", "pass two different files"
            )
