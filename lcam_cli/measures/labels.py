"""The true classes of images, from a file or from the names of their folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.maps.paths import stored_path
from lcam_cli.measures.label_file import read_label_file
from lcam_cli.measures.label_match import match_lines

FOLDERS = "folders"

_UNKNOWN_SHOWN = 8


def read_labels(
    source: str,
    row_paths: Sequence[str],
    backbone: Backbone,
    *,
    root: str = "",
    warn: Callable[[str], None] = lambda _message: None,
) -> dict[str, int]:
    """Find the true class of every row.

    Args:
        source: ``"folders"``: the parent folder's name is a class index, class name or WordNet id;
            otherwise a file as :func:`~lcam_cli.measures.label_file.read_label_file` takes it,
            whose names mean rows by the rules of
            :func:`~lcam_cli.measures.label_match.match_lines`.
        row_paths: The paths of the rows, absolute or relative to ``root``.
        backbone: The classifier, which knows the classes.
        root: The folder of the images, absolute; rows do not speak of it, and its name may be
            what a class is known by.
        warn: Called with what may surprise: lines that mean no row.

    Returns:
        Class indices by row path, for the rows that have one.

    Raises:
        LcamError: The file cannot be read, gives an image two classes, or names no class of the
            classifier; or no row has a label.
    """
    rows = list(dict.fromkeys(row_paths))
    if source == FOLDERS:
        named = _named_by_folder(rows, root)
        where = "the folders' names"
    else:
        named = _named_by_file(source, rows, root, backbone, warn)
        where = source
    of_label = {label: path for path, label in reversed(named.items())}
    try:
        known = _classes_of(list(dict.fromkeys(named.values())), backbone, where)
    except _UnknownClassError as error:
        if source != FOLDERS:
            raise
        raise _no_class_folder(error, root, of_label[error.label], backbone) from None
    return {path: known[label] for path, label in named.items()}


def labels_of_files(
    source: str,
    paths: Sequence[str],
    root: str,
    backbone: Backbone,
    warn: Callable[[str], None] = lambda _message: None,
) -> dict[str, int]:
    """Find the true class of every image that has one.

    Args:
        source: As in :func:`read_labels`; rows are named relative to ``root``.
        paths: The images.
        root: The folder that they lie in.
        backbone: The classifier, which knows the classes.
        warn: As in :func:`read_labels`.

    Returns:
        Class indices by path.

    Raises:
        LcamError: As :func:`read_labels`.
    """
    names = {path: stored_path(path, root) for path in paths}
    base = os.path.abspath(root)  # noqa: PTH100
    known = read_labels(source, list(names.values()), backbone, root=base, warn=warn)
    return {path: known[name] for path, name in names.items() if name in known}


class _UnknownClassError(LcamError):
    """A label that is no class, and all that is to be told of it."""

    def __init__(self, label: str, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.label = label


def _named_by_folder(paths: Sequence[str], root: str) -> dict[str, str]:
    """Return the name of each image's folder.

    Raises:
        LcamError: An image lies in none.
    """
    named = {path: PurePosixPath(root, path).parent.name for path in paths}
    flat = [path for path, label in named.items() if not label]
    if flat:
        all_of_them = len(flat) == len(named)
        raise LcamError(
            "these images are not in a folder named after their class"
            if all_of_them
            else f"{flat[0]} is not in a folder named after its class",
            "use --labels FILE, with lines `name class`",
        )
    return named


def _named_by_file(
    source: str,
    rows: Sequence[str],
    root: str,
    backbone: Backbone,
    warn: Callable[[str], None],
) -> dict[str, str]:
    """Return the label that a file gives each row, for the rows that have one.

    Raises:
        LcamError: See :func:`read_labels`.
    """

    def meaning(label: str) -> int | str:
        """The class that a label names; the label itself where it names none."""
        try:
            return class_of(label, backbone)
        except LcamError:
            return label

    lines = read_label_file(Path(source), lambda label: not isinstance(meaning(label), str))
    found = match_lines(lines, rows, root)
    for same in (*found.same_name, *found.lines.values()):
        for line in same[1:]:
            if line.label != same[0].label and meaning(line.label) != meaning(same[0].label):
                raise LcamError(
                    f"{source} assigns {_last_part(line.name)} two classes: line {same[0].number} "
                    f"`{same[0].text}`, line {line.number} `{line.text}`",
                    "write enough of each path to tell the images apart, or remove one line",
                )
    unclear = (
        f"; the names of {len(found.unclear)} fit several images or lines, e.g. line "
        f"{found.unclear[0].number} `{found.unclear[0].text}`: write more of the path"
        if found.unclear
        else ""
    )
    if not found.lines:
        raise LcamError(
            f"{source} has no label for any of the {len(rows)} images{unclear}",
            "write lines `name class`, with the name as in the result or enough of its end to tell "
            "the images apart",
        )
    if found.unmatched:
        warn(f"{len(found.unmatched)} of {len(lines)} lines of {source} match no image{unclear}")
    return {rows[row]: same[0].label for row, same in found.lines.items()}


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _no_class_folder(
    error: _UnknownClassError, root: str, path: str, backbone: Backbone
) -> LcamError:
    """Tell of a folder whose name is no class, by an image in it."""
    in_root = not PurePosixPath(path).parent.name
    in_none = "these images are not in a folder named after their class; " if in_root else ""
    picture = "/".join(PurePosixPath(root, path).parts[-2:])
    near = did_you_mean(error.label, backbone.class_names)
    return LcamError(
        f"{in_none}{error.what} (…/{picture})",
        f"{near} `--labels {FOLDERS}` needs …/CLASS/image.jpg; "
        "otherwise use --labels FILE".lstrip(),
    )


def _classes_of(labels: Sequence[str], backbone: Backbone, where: str) -> dict[str, int]:
    """Find the class of each label; one error tells of all that have none."""
    known: dict[str, int] = {}
    unknown: list[tuple[str, LcamError]] = []
    for label in labels:
        try:
            known[label] = class_of(label, backbone)
        except LcamError as error:
            unknown.append((label, error))
    if unknown:
        label, first = unknown[0]
        others = ", ".join(repr(label) for label, _ in unknown[1:_UNKNOWN_SHOWN])
        more = len(unknown) - _UNKNOWN_SHOWN
        also = f", nor {others}" if others else ""
        also += f" and {more} more" if more > 0 else ""
        hint = _counts_from_one(labels, backbone) or first.hint
        raise _UnknownClassError(label, f"{where}: {first.what}{also}", hint)
    return known


def class_of(label: str, backbone: Backbone) -> int:
    """The class that a label names, by WordNet id, name or index.

    Raises:
        LcamError: It names none.
    """
    return backbone.class_index(label)


def _counts_from_one(labels: Sequence[str], backbone: Backbone) -> str:
    """What to do where labels are numbers from 1 to the number of classes; empty where not."""
    if not all(label.isdecimal() for label in labels):
        return ""
    numbers = {int(label) for label in labels}
    if 0 in numbers or max(numbers) != backbone.num_classes:
        return ""
    return (
        f"its classes seem to count from 1, and the classifier's from 0 to {max(numbers) - 1}: "
        "subtract 1, or pass the labels in the classifier's order with --classes FILE"
    )
