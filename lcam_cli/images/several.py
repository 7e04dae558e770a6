"""Files that hold several images: how many each does, and so the names of all images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lcam_cli.errors import BadImageError
from lcam_cli.images.decoder import idle_decoders
from lcam_cli.images.formats import format_of_several
from lcam_cli.images.numbered import numbered, split_number
from lcam_cli.images.ordered import Lend, in_order
from lcam_cli.images.picture import PictureFormat, head_of
from lcam_cli.images.tars import locate

_WORKERS = 4
"""Processes that count, where none has been started for reading."""

_AHEAD = 256

# A file may claim any number of images, and each gets a name in memory. More than the first are
# believed where the file has as many bytes for each as the second; real images take more.
_ALWAYS_BELIEVED = 10_000
_BYTES_A_PICTURE = 16


def family_of(path: str) -> PictureFormat | None:
    """Return the format of a file that may hold several images; None for all other files.

    Args:
        path: A file; one in a tar, or none at all, is known by its name alone.
    """
    return format_of_several(path, lambda: head_of(path))


def named_in_file(path: str) -> tuple[str, str] | None:
    """Return the file and the name of an image that is named ``FILE#N``; None for other paths.

    The name has as many digits as lcam gives it.
    """
    split = split_number(path)
    if split is None or os.path.lexists(path) or not os.path.isfile(split[0]):  # noqa: PTH113
        return None
    family = family_of(split[0])
    return (split[0], numbered(*split, family.digits)) if family is not None else None


@dataclass(frozen=True)
class Numbered:
    """What a file is to a run.

    Attributes:
        path: The file; or an image of one, that is named so.
        names: Of the images in it. None for a table of other things.
        wrong: Why it is left out; empty where it is not.
        note: What to say about it; mostly nothing.
    """

    path: str
    names: Sequence[str] = ()
    wrong: str = ""
    note: str = ""


def with_numbers(paths: Sequence[str]) -> Iterator[Numbered]:
    """Yield each file with the names of the images in it, in order.

    Files are counted in reading processes, several at once. One that cannot be counted is one
    image, whose reading says why; a table is left out, and so is what claims more images than
    it has room for.

    Args:
        paths: Files, and images of some that are named so.
    """
    families = {path: family for path in paths if (family := family_of(path)) is not None}
    workers = min(idle_decoders() or _WORKERS, len(families) or 1)
    answers = in_order(families, _count, workers, _AHEAD)
    with contextlib.closing(answers):
        for path in paths:
            if path in families:
                yield _numbered(path, families[path], next(answers)[1])
            else:
                yield Numbered(path, [path])


def _count(path: str, lend: Lend) -> tuple[int, str] | BadImageError:
    with lend() as decoder:
        try:
            return decoder.count(path)
        except BadImageError as error:
            return error


def _numbered(
    path: str, family: PictureFormat, answer: tuple[int, str] | BadImageError
) -> Numbered:
    if isinstance(answer, BadImageError):
        return Numbered(path, wrong=answer.reason) if family.is_table else Numbered(path, [path])
    count, note = answer
    if count > _ALWAYS_BELIEVED and count > (size := _size(path)) // _BYTES_A_PICTURE:
        claim = f"it claims to hold {count:,} images, in {size:,} bytes"
        return Numbered(path, wrong=claim)
    if count <= 1 and not family.is_table:
        return Numbered(path, [path], note=note)
    names = [numbered(path, number, family.digits) for number in range(count)]
    return Numbered(path, names, note=note)


def _size(path: str) -> int:
    at = locate(path)
    with contextlib.suppress(OSError):
        return os.path.getsize(at.file) if at.place is None else at.place[1]  # noqa: PTH202
    return 0
