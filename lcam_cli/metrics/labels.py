"""The true classes of pictures, from a file or from the names of their folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError, did_you_mean
from lcam_cli.maps.paths import stored_path

FOLDERS = "folders"

_UNKNOWN_SHOWN = 8


def read_labels(source: str, row_paths: Sequence[str], backbone: Backbone) -> dict[str, int]:
    """Find the true class of every row.

    Args:
        source: ``"folders"``: the parent folder's name is a class index, class name or WordNet id;
            otherwise a file with a line ``name index-or-class`` a picture, where ``name`` is the
            row's path or its last part.
        row_paths: The paths of the rows.
        backbone: The classifier, which knows the classes.

    Returns:
        Class indices by row path, for the rows that have one.

    Raises:
        LcamError: The file cannot be read, or names no class of the classifier; or no row has a
            label.
    """
    if source == FOLDERS:
        named = _named_by_folder(row_paths)
        where = "the folders' names"
    else:
        by_name = _read_file(Path(source))
        found = {p: by_name.get(p, by_name.get(PurePosixPath(p).name)) for p in row_paths}
        named = {path: label for path, label in found.items() if label is not None}
        where = source
    of_label = {label: path for path, label in reversed(named.items())}
    try:
        known = _classes_of(list(dict.fromkeys(named.values())), backbone, where)
    except _UnknownClassError as error:
        if source != FOLDERS:
            raise
        raise _no_class_folder(error, of_label[error.label], backbone) from None
    if not named:
        raise LcamError(
            f"{source} has a label for none of the {len(row_paths)} pictures",
            "its lines are `name class`, the name as in the result or its last part",
        )
    return {path: known[label] for path, label in named.items()}


def labels_of_files(
    source: str, paths: Sequence[str], root: str, backbone: Backbone
) -> dict[str, int]:
    """Find the true class of every picture that has one.

    Args:
        source: As in :func:`read_labels`; rows are named relative to ``root``.
        paths: The pictures.
        root: The folder that they lie in.
        backbone: The classifier, which knows the classes.

    Returns:
        Class indices by path.

    Raises:
        LcamError: As :func:`read_labels`.
    """
    # The folder whose name is the class may be the root itself, of which rows do not speak.
    names = {p: os.path.abspath(p) if source == FOLDERS else stored_path(p, root) for p in paths}  # noqa: PTH100
    known = read_labels(source, list(names.values()), backbone)
    return {path: known[name] for path, name in names.items() if name in known}


class _UnknownClassError(LcamError):
    """A label that is no class, and all that is to be told of it."""

    def __init__(self, label: str, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.label = label


def _named_by_folder(paths: Sequence[str]) -> dict[str, str]:
    """Return the name of each picture's folder.

    Raises:
        LcamError: A picture lies in none.
    """
    named = {path: PurePosixPath(path).parent.name for path in paths}
    flat = [path for path, label in named.items() if not label]
    if flat:
        all_of_them = len(flat) == len(named)
        raise LcamError(
            "these pictures lie in no folder of their class"
            if all_of_them
            else f"{flat[0]} lies in no folder of its class",
            "use --labels FILE, with lines `name class`",
        )
    return named


def _no_class_folder(error: _UnknownClassError, path: str, backbone: Backbone) -> LcamError:
    """Tell of a folder whose name is no class, by a picture in it."""
    picture = "/".join(PurePosixPath(path).parts[-2:])
    near = did_you_mean(error.label, backbone.class_names)
    return LcamError(
        f"{error.what} (…/{picture})",
        f"{near} `--labels {FOLDERS}` wants …/CLASS/picture.jpg; else use --labels FILE".lstrip(),
    )


def _classes_of(labels: Sequence[str], backbone: Backbone, where: str) -> dict[str, int]:
    """Find the class of each label; one error tells of all that have none."""
    wordnet = _wordnet_ids()
    known: dict[str, int] = {}
    unknown: list[tuple[str, LcamError]] = []
    for label in labels:
        if label in wordnet and backbone.num_classes == len(wordnet):
            known[label] = wordnet[label]
            continue
        try:
            known[label] = backbone.class_index(label)
        except LcamError as error:
            unknown.append((label, error))
    if unknown:
        label, first = unknown[0]
        others = ", ".join(repr(label) for label, _ in unknown[1:_UNKNOWN_SHOWN])
        more = len(unknown) - _UNKNOWN_SHOWN
        also = f", nor {others}" if others else ""
        also += f" and {more} more" if more > 0 else ""
        raise _UnknownClassError(label, f"{where}: {first.what}{also}", first.hint)
    return known


def _read_file(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise LcamError(
            f"cannot read labels from {path}: {error.strerror}",
            f"give a file with lines `name class`, or `--labels {FOLDERS}`",
        ) from None
    labels: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, label = line.strip().partition(" ")
        # Names with spaces: the class is what follows the extension.
        for split in _splits(line.strip()):
            if PurePosixPath(split[0]).suffix:
                name, label = split
                break
        if not label.strip():
            raise LcamError(
                f"{path}, line {number}: {line.strip()!r} has no class", "write `name class`"
            )
        labels[name] = label.strip()
    return labels


def _splits(line: str) -> list[tuple[str, str]]:
    """Every way to cut a line at white space into a name and a class."""
    places = [i for i, character in enumerate(line) if character in " \t,"]
    return [(line[:i], line[i + 1 :].strip()) for i in places]


def _wordnet_ids() -> dict[str, int]:
    """ImageNet-1k's WordNet ids, in the order of its classes."""
    text = resources.files("lcam_cli.metrics").joinpath("imagenet_wordnet_ids.txt").read_text()
    return {wordnet_id: index for index, wordnet_id in enumerate(text.split())}
