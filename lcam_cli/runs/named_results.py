"""The files that ``--out`` names: what each holds is known by how its name ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.runs.targets import FIGURE_SUFFIXES, check_target, is_hdf5

FORMATS = {
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".markdown": "markdown",
    ".tex": "latex",
    ".txt": "table",
}
"""The format of a result by the extension of its file; ``"table"`` is plain text."""

_NO_EXTENSION = "markdown"
_USUAL = {"json": ".json", "csv": ".csv", "markdown": ".md", "latex": ".tex", "table": ".txt"}
_PICTURES = {*FIGURE_SUFFIXES, ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy", ".html"}


@dataclass(frozen=True)
class NamedResults:
    """What ``--out`` asks for.

    Attributes:
        maps: The file for all maps, of a command that has them to give; None for none.
        texts: Files for the result, and the format of each.
    """

    maps: Path | None = None
    texts: tuple[tuple[Path, str], ...] = ()

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [*([] if self.maps is None else [self.maps]), *(file for file, _ in self.texts)]


def format_of(file: Path) -> str | None:
    """Return the format that a file's extension stands for; None where it stands for none."""
    return FORMATS.get(file.suffix.lower())


def named_results(
    out: Iterable[Path],
    asked: str | None,
    formats: Sequence[str],
    *,
    maps: bool = False,
    figures: bool = False,
    option: str = "--out",
) -> NamedResults:
    """Find what is written to each file of ``--out``.

    Args:
        out: The files.
        asked: ``--format``, where it was given for them; else None.
        formats: The formats that the command can write, beside ``"table"``.
        maps: Whether a file ``*.h5`` is for all maps.
        figures: Whether the command draws a figure.
        option: The option that names them, for messages.

    Raises:
        LcamError: A name says nothing of the format, or of another one than ``--format``, or there
            are two files for maps.
    """
    of_maps: list[Path] = []
    texts: list[tuple[Path, str]] = []
    for file in dict.fromkeys(out):
        if maps and is_hdf5(file):
            of_maps.append(file)
        else:
            kind = _Kind(option, tuple(formats), maps, figures)
            texts.append((file, kind.format(file, asked)))
    if len(of_maps) > 1:
        raise LcamError(
            f"--out names two files for maps, {of_maps[0]} and {of_maps[1]}", "name one"
        )
    return NamedResults(of_maps[0] if of_maps else None, tuple(texts))


@dataclass(frozen=True)
class _Kind:
    """What a command can write, and the option that says where to."""

    option: str
    formats: tuple[str, ...]
    maps: bool
    figures: bool

    @property
    def wanted(self) -> str:
        """What to do instead of what was typed."""
        endings = [_USUAL[name] for name in self.readable]
        more = ", or in .h5 for the maps" if self.maps else ""
        return f"name a file that ends in {', '.join(endings[:-1])} or {endings[-1]}{more}"

    @property
    def readable(self) -> tuple[str, ...]:
        """All formats."""
        plain = ("table",) if self.option == "--out" else ()
        return (*self.formats, *plain)

    def format(self, file: Path, asked: str | None) -> str:
        """Return the format of a file."""
        suffix, meant, named = file.suffix.lower(), format_of(file), f"{self.option} {file}"
        if suffix in _PICTURES or is_hdf5(file):
            raise LcamError(f"{named}: a result cannot be a {suffix} file", self._instead(file))
        if meant is not None and meant not in self.readable:
            raise LcamError(f"{named}: this result is not written as {meant}", self.wanted)
        if meant is None:
            if asked is None and suffix:
                more = ", or add --format" if self.option == "--out" else ""
                raise LcamError(f"{named}: {suffix} is not a known format", f"{self.wanted}{more}")
            # A table in a file that may be anything is one that every program shows.
            return _NO_EXTENSION if asked in (None, "table") else str(asked)
        # A Markdown file holds a table too.
        if asked not in (None, meant) and (asked, meant) != ("table", "markdown"):
            raise LcamError(
                f"--format {asked} and {named} disagree: {suffix} is {meant}",
                f"remove --format, or name a file *{_USUAL[str(asked)]}",
            )
        return meant

    def _instead(self, file: Path) -> str:
        if file.suffix.lower() == ".html":
            return f"{self.wanted}; a page is --report DIR"
        if self.figures and file.suffix.lower() in FIGURE_SUFFIXES:
            return f"{self.wanted}; a figure is --figure {file}"
        return self.wanted


def check_results(results: NamedResults, overwrite: bool) -> None:
    """Refuse files that cannot be written, or may not be.

    Raises:
        LcamError: One exists, or is a folder.
    """
    for file in results.files:
        check_target(file, "--out", overwrite)
