"""From ``--boxes FILE`` or ``--masks DIR`` to where the objects of a run's images are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import LcamError
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.paths import stored_path
from lcam_cli.measures.labels import class_of
from lcam_cli.measures.object_files.box import BoxFile, NamedBox, empty_boxes, short_name
from lcam_cli.measures.object_files.box_csv import read_csv
from lcam_cli.measures.object_files.boxes import ANY_CLASS, Boxes
from lcam_cli.measures.object_files.coco import read_coco
from lcam_cli.measures.object_files.folder import files_in
from lcam_cli.measures.object_files.left_out import without_objects
from lcam_cli.measures.object_files.masks import Masks
from lcam_cli.measures.object_files.matching import Pictures, match_pictures
from lcam_cli.measures.object_files.voc import read_voc

_SHOWN = 5
_MEANT = "name images as in the result, or with enough of the end of their paths to tell them"


@dataclass(frozen=True)
class Run:
    """The images whose objects are asked for.

    Attributes:
        names: What they are called, each once: relative to ``root``, or absolute.
        root: The folder that they lie in, absolute; may be empty.
        asked_as: What they are called when their objects are asked for, in the same order; None
            where that is ``names``.
        max_pixels: A mask with more is not read.
    """

    names: Sequence[str]
    root: str = ""
    asked_as: Sequence[str] | None = None
    max_pixels: int = MAX_PIXELS

    @classmethod
    def of_rows(cls, names: Sequence[str], root: str, max_pixels: int = MAX_PIXELS) -> Run:
        """A run whose images are asked for as rows are called, one for each class of each."""
        return cls(list(dict.fromkeys(names)), root, None, max_pixels)

    @classmethod
    def of_files(cls, paths: Sequence[str], root: str, max_pixels: int = MAX_PIXELS) -> Run:
        """A run whose images are asked for by their paths, as they were found in ``root``."""
        unique = list(dict.fromkeys(paths))
        names = [stored_path(path, root) for path in unique]
        return cls(names, str(Path(root).absolute()), unique, max_pixels)

    @property
    def asked(self) -> Sequence[str]:
        """What the images are called when their objects are asked for."""
        return self.names if self.asked_as is None else self.asked_as


def read_objects(
    boxes: Path | None,
    masks: Path | None,
    run: Run,
    backbone: Backbone | None,
    warn: Callable[[str], None] = lambda _line: None,
) -> Boxes | Masks | None:
    """Find out where the objects of a run's images are.

    Args:
        boxes: COCO JSON (``*.json``), a folder of Pascal VOC XML, or CSV; or None.
        masks: A folder of PNGs; or None.
        run: The images.
        backbone: The classifier, which knows classes; None has every box count for every class.
        warn: Called with what is left out, a line each. What is found only when images are read
            is in the result's ``lines()``, at the end of the run.

    Returns:
        Who knows where the objects are; None where neither was given.

    Raises:
        LcamError: Both are given; or what is given cannot be read, is none of these, has a name
            that fits several images, or knows of no image of the run.
    """
    if boxes is not None and masks is not None:
        raise LcamError("--boxes and --masks are both set", "pass only one of them")
    if boxes is not None:
        return _read_boxes(boxes, run, backbone, warn)
    return None if masks is None else _read_masks(masks, run, warn)


def _read_masks(folder: Path, run: Run, warn: Callable[[str], None]) -> Masks:
    if not folder.is_dir():
        raise LcamError(f"--masks {folder} is not a folder", "pass a folder of PNGs, one per image")
    listed = files_in(folder, ".png")
    for line in listed.notes(folder):
        warn(line)
    if not listed.found:
        raise LcamError(
            f"--masks {folder} holds no PNG, only {listed.others} other files",
            "save masks as PNGs named like their images, above 0 on the object",
        )
    name_of = _by_stem(listed.found, folder)
    matched = match_pictures(list(name_of), run.names, run.root, folder)
    found = {place: name_of[name] for name, place in matched.row_of.items()}
    for place, mask in found.items():
        if _is_same(folder / mask, Path(run.root) / run.names[place]):
            raise LcamError(
                f"--masks {folder}: {mask} is an image of this run, not its mask",
                "pass a folder of separate PNGs, named like their images",
            )
    _tell(found, matched, run, folder, "mask", warn)
    return Masks(folder, run.asked, found, run.max_pixels)


def _read_boxes(
    source: Path, run: Run, backbone: Backbone | None, warn: Callable[[str], None]
) -> Boxes:
    if source.is_dir():
        matched, boxes = _read_voc_folder(source, run, warn)
    else:
        if source.suffix.lower() == ".xml":
            raise LcamError(f"--boxes {source} is one XML file", "pass the folder that it is in")
        file = read_coco(source) if source.suffix.lower() == ".json" else read_csv(source)
        matched, boxes = _matched(file, source, run, warn)
    _tell(boxes, matched, run, source, "box", warn)
    labels = list(dict.fromkeys(box.label for some in boxes.values() for box in some))
    return Boxes(source, run.asked, boxes, _classes(labels, source, backbone, warn))


def _matched(
    file: BoxFile, source: Path, run: Run, warn: Callable[[str], None]
) -> tuple[Pictures, dict[int, list[NamedBox]]]:
    for line in file.notes:
        warn(line)
    matched = match_pictures(file.pictures, run.names, run.root, source)
    found: dict[int, list[NamedBox]] = {}
    for box in file.boxes:
        if box.picture in matched.row_of:
            found.setdefault(matched.row_of[box.picture], []).append(box)
    return matched, found


def _read_voc_folder(
    folder: Path, run: Run, warn: Callable[[str], None]
) -> tuple[Pictures, dict[int, list[NamedBox]]]:
    """Read the files of the run's images alone: each is named as its image."""
    listed = files_in(folder, ".xml")
    if not listed.found:
        raise LcamError(
            f"--boxes {folder} is a folder without XML files",
            "pass a COCO JSON or CSV file, or a folder of Pascal VOC XML files",
        )
    name_of = _by_stem(listed.found, folder)
    matched = match_pictures(list(name_of), run.names, run.root, folder)
    notes = listed.notes(folder)
    boxes: dict[int, list[NamedBox]] = {}
    others, empty, example = [], 0, ""
    for name, place in matched.row_of.items():
        file = read_voc(folder / name_of[name], name)
        if not file.is_annotation:
            others.append(name_of[name])
        empty, example = empty + file.empty, example or (name_of[name] if file.empty else "")
        if file.boxes:
            boxes[place] = file.boxes
    notes += empty_boxes(empty, folder, example)
    if others:
        notes.append(
            f"{folder}: {len(others)} XML files are not an <annotation> and are skipped, "
            f"e.g. {others[0]}"
        )
    for line in notes:
        warn(line)
    return matched, boxes


def _is_same(mask: Path, picture: Path) -> bool:
    return os.path.realpath(mask) == os.path.realpath(picture)


def _by_stem(names: Sequence[str], folder: Path) -> dict[str, str]:
    """Files by their names less the extension, four characters.

    Raises:
        LcamError: Two differ in the case of their extension alone.
    """
    found: dict[str, str] = {}
    for name in names:
        if (other := found.setdefault(name[:-4], name)) != name:
            raise LcamError(
                f"{folder}: {other} and {name} belong to the same image", "keep one of them"
            )
    return found


def _tell(
    found: dict[int, list[NamedBox]] | dict[int, str],
    matched: Pictures,
    run: Run,
    source: Path,
    what: str,
    warn: Callable[[str], None],
) -> None:
    """Say which names mean no image, and which images have nothing.

    Raises:
        LcamError: No image has anything.
    """
    if not found:
        example = f", e.g. {short_name(matched.unmatched[0])}" if matched.unmatched else ""
        raise LcamError(
            f"{source} has no {what} for any of the {len(run.names)} images{example}",
            f"{_MEANT} apart; the first image is {run.names[0] if run.names else ''!r}",
        )
    lacking = [name for place, name in enumerate(run.names) if place not in found]
    for line in (
        *matched.notes(source, "names"),
        *without_objects(source, lacking, len(run.names), what),
    ):
        warn(line)


def _classes(
    labels: Sequence[str],
    source: Path,
    backbone: Backbone | None,
    warn: Callable[[str], None],
) -> dict[str, int]:
    """The class of each label; boxes of labels that are none count for every class."""
    known = dict.fromkeys(labels, ANY_CLASS)
    unknown = []
    if backbone is None:
        return known
    for label in filter(None, labels):
        try:
            known[label] = class_of(label, backbone)
        except LcamError:
            unknown.append(label)
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        listed = ", ".join(label[:40] for label in unknown[:_SHOWN])
        warn(
            f"{source}: boxes of {listed}{more} count for every class: the classifier has no "
            "class with that name, or several"
        )
    return known
