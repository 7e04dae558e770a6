"""The true classes of pictures, from a file or from the names of their folders."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError

FOLDERS = "folders"


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
        named = {path: PurePosixPath(path).parent.name for path in row_paths}
        where = "the folders' names"
    else:
        by_name = _read_file(Path(source))
        found = {p: by_name.get(p, by_name.get(PurePosixPath(p).name)) for p in row_paths}
        named = {path: label for path, label in found.items() if label is not None}
        where = source
    known: dict[str, int] = {}
    for label in dict.fromkeys(named.values()):
        known[label] = _class_of(label, backbone, where)
    if not named:
        raise LcamError(
            f"{source} has a label for none of the {len(row_paths)} pictures",
            "its lines are `name class`, the name as in the maps file or its last part",
        )
    return {path: known[label] for path, label in named.items()}


def _class_of(label: str, backbone: Backbone, where: str) -> int:
    wordnet = _wordnet_ids()
    if label in wordnet and backbone.num_classes == len(wordnet):
        return wordnet[label]
    try:
        return backbone.class_index(label)
    except LcamError as error:
        raise LcamError(f"{where}: {error.what}", error.hint) from None


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
