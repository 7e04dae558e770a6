"""HTML pages that open offline: one folder with all they need, and nothing written outside it."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

import jinja2

from lcam_cli.errors import LcamError
from lcam_cli.locks import LOCK_NAME
from lcam_cli.maps.atomic import cannot_write, remove, write_atomically
from lcam_cli.version import __version__

INDEX = "index.html"
FILES = "lcam-files"
"""The folder beside the page with all else: a name of ours alone, since it is replaced whole."""

_HTML = Path(__file__).parent / "html"
_ASSETS = ("page.css", "page.js")


def check_page_folder(folder: Path, option: str, *, overwrite: bool) -> None:
    """Refuse a folder for a page before any work is done.

    Args:
        folder: Where the page is to be; it need not exist.
        option: The option that named it, e.g. ``"--report"``.
        overwrite: Whether what is there may be replaced.

    Raises:
        LcamError: It is a file, or holds something and may not be replaced.
    """
    if not (folder.exists() or folder.is_symlink()):
        return
    if not folder.is_dir():
        raise LcamError(f"{option} {folder} is not a folder", "pass a folder")
    try:
        occupied = any(entry.name != LOCK_NAME for entry in folder.iterdir())
    except OSError as error:
        raise LcamError(
            f"cannot read {option} {folder}: {error.strerror}", "pass another folder"
        ) from error
    if occupied and not overwrite:
        raise LcamError(
            f"{option} {folder} is not empty", f"pass --overwrite or another {option} folder"
        )


def remove_unfinished_page(folder: Path) -> None:
    """Remove what was written of a page that is not there itself; what cannot go stays."""
    if not (folder / INDEX).exists():
        shutil.rmtree(folder / FILES, ignore_errors=True)


class PageFolder:
    """A folder that becomes a page: its files first, ``index.html`` in the end.

    All files but the page itself lie in ``lcam-files``. An earlier page there is removed; what has
    other names stays. Nothing is written through links, so nothing lands outside.

    Args:
        folder: The folder; made with its parents.
        assets: Names of the styles and scripts that this page needs beside those of all pages.
        parts: Names of folders to make in ``lcam-files``.

    Attributes:
        path: The folder.

    Raises:
        LcamError: It cannot be written to.
    """

    def __init__(self, folder: Path, assets: Sequence[str] = (), parts: Sequence[str] = ()) -> None:
        self.path = folder
        files = folder / FILES
        with self.disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
            remove(folder / INDEX)  # what is half written must not look finished
            if files.is_symlink():
                files.unlink()
            elif files.exists():
                shutil.rmtree(files)
            for part in (files, *(files / part for part in parts)):
                part.mkdir()
        for asset in (*_ASSETS, *assets):
            self.write(asset, (_HTML / asset).read_bytes())

    def write(self, name: str, data: bytes) -> None:
        """Write a new file.

        Args:
            name: Its name in ``lcam-files``, one of ours: never a name from outside.
            data: What it holds.

        Raises:
            LcamError: The disk is full or fails, or there is such a file.
        """
        with self.disk_errors(), self.open(name) as file:
            file.write(data)

    def open(self, name: str) -> BufferedWriter:
        """Open a new file in ``lcam-files`` to be written piece by piece.

        Raises:
            OSError: It cannot be made, or is there.
        """
        return (self.path / FILES / name).open("xb")

    def finish(self, template: str, **context: object) -> Path:
        """Render the page itself, which makes the folder complete.

        Args:
            template: A template's file name.
            context: What it shows; text is escaped.

        Returns:
            The page's path.

        Raises:
            LcamError: The disk is full or fails.
        """
        text = _templates().get_template(template).render(version=__version__, **context)
        target = self.path / INDEX
        with self.disk_errors():
            write_atomically(target, text.encode("utf-8", "backslashreplace"))
        return target

    @contextmanager
    def disk_errors(self) -> Iterator[None]:
        """Raise what the disk refuses as :class:`LcamError`."""
        try:
            yield
        except OSError as error:
            raise cannot_write(
                self.path, error, needed="some", hint="free some space, or pass another folder"
            ) from error


def script_json(value: object) -> str:
    """Return JSON that is safe inside JavaScript, in a file or in a page.

    ASCII only, and without the characters that could end a script or begin markup.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HTML),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
