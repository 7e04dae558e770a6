"""Boxes of COCO's JSON (Lin et al., ECCV 2014): ``images``, ``annotations``, ``categories``.

Outlines, ``segmentation``, are not read: the box beside them is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcam_cli.errors import LcamError
from lcam_cli.measures.object_files.box import (
    BoxFile,
    Edges,
    NamedBox,
    empty_boxes,
    is_empty,
    number,
    picture_size,
    short,
)
from lcam_cli.measures.object_files.text import read_text

_WANTED = 'a COCO file is {"images": […], "annotations": […], "categories": […]}'
_BBOX = 'write "bbox": [x, y, width, height], in pixels of the upright image'


def read_coco(path: Path) -> BoxFile:
    """Read a COCO file.

    A box's class is the name of its category; in a file without categories boxes have no class.

    Raises:
        LcamError: It cannot be read, is no COCO file, or an annotation has no box, or one that is
            not made of numbers, or is of an image or a category that the file does not list.
    """
    data = _parsed(path)
    images = {}
    for image in _objects(data, "images", path):
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise LcamError(
                f"{path}: an image has no file_name (id {short(image.get('id'))})", _WANTED
            )
        images[_id(image, "id", path)] = image
    if not images:
        raise LcamError(f"{path} lists no images", _WANTED)
    categories = (
        {
            _id(one, "id", path): str(one.get("name", ""))
            for one in _objects(data, "categories", path)
        }
        if data.get("categories")
        else None
    )
    boxes, empty, example = [], 0, ""
    for annotation in _objects(data, "annotations", path):
        who = f"{path}, annotation {short(annotation.get('id'))}"
        identity = _id(annotation, "image_id", path)
        if identity not in images:
            raise LcamError(
                f"{who} is of image {short(identity)}, which is not among its images",
                "add the image, or remove the annotation",
            )
        image = images[identity]
        edges = _edges(annotation, who)
        if is_empty(edges):
            empty, example = empty + 1, example or f"annotation {short(annotation.get('id'))}"
            continue
        size = picture_size(image.get("width"), image.get("height"))
        label = _category(annotation, categories, who)
        boxes.append(NamedBox(image["file_name"], label, edges, size))
    names = list(dict.fromkeys(image["file_name"] for image in images.values()))
    return BoxFile(names, boxes, empty_boxes(empty, path, example))


def _parsed(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(read_text(path))
    except RecursionError:
        raise LcamError(f"{path} is nested too deeply to be a COCO file", _WANTED) from None
    except json.JSONDecodeError as error:
        raise LcamError(f"{path} is not JSON: {error}", _WANTED) from None
    except ValueError:
        raise LcamError(f"{path} has a number with thousands of digits", _WANTED) from None
    if not isinstance(data, dict):
        raise LcamError(f"{path} is JSON but not an object", _WANTED)
    for name in ("images", "annotations"):
        if name not in data:
            raise LcamError(f"{path} has no {name!r}", _WANTED)
    return data


def _objects(data: Mapping[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    found = data[name]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise LcamError(f"{path}: {name!r} is not a list of objects", _WANTED)
    return found


def _id(one: Mapping[str, Any], name: str, path: Path) -> int | str:
    found = one.get(name)
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise LcamError(
            f"{path}: an entry's {name} is {short(found)}, not a whole number or text", _WANTED
        )
    return found


def _edges(annotation: Mapping[str, Any], who: str) -> Edges:
    bbox = annotation.get("bbox")
    if bbox is None and annotation.get("segmentation"):
        raise LcamError(
            f"{who} has an outline but no bbox",
            'add "bbox": [x, y, width, height], or draw the outlines as PNGs for --masks',
        )
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise LcamError(f"{who} has no bbox of four numbers", _BBOX)
    x, y, width, height = (number(one, f"{who}: a number of its bbox", _BBOX) for one in bbox)
    return x, y, x + width, y + height


def _category(
    annotation: Mapping[str, Any], categories: Mapping[int | str, str] | None, who: str
) -> str:
    if categories is None or "category_id" not in annotation:
        return ""
    identity = annotation["category_id"]
    if not isinstance(identity, int | str) or identity not in categories:
        raise LcamError(
            f"{who} is of category {short(identity)}, which is not among its categories",
            "add the category, or remove category_id: the box then counts for every class",
        )
    return categories[identity]
