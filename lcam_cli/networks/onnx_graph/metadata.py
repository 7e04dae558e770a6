"""What exporters write into an ONNX file beside the graph: names of classes, the images' size.

These are texts of a stranger's. They are read as lists, by pattern, and never evaluated.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

_LONGEST = 2**20
_MOST_CLASSES = 2**17
_TEXT = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_ENTRY = re.compile(rf"\s*(\d{{1,9}})\s*:\s*({_TEXT})\s*(?:,|$)")
_KEYS = ("names", "class_names", "classes", "labels")


def class_names(metadata: Mapping[str, str]) -> list[str]:
    """The names of classes, in order; none where they are not told, or not in a known way.

    Known are ultralytics' ``names``, a Python dictionary of numbers and names, and lists in JSON.
    """
    for key in _KEYS:
        text = metadata.get(key, "").strip()
        if text and len(text) <= _LONGEST:
            names = _of_dictionary(text) if text.startswith("{") else _of_list(text)
            if names:
                return names
    return []


def picture_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """(H, W) as ultralytics writes it, ``imgsz``; None where it is not told."""
    found = re.fullmatch(r"\[(\d{1,5}), (\d{1,5})\]", metadata.get("imgsz", ""))
    return None if found is None else (int(found[1]), int(found[2]))


def is_of_ultralytics(metadata: Mapping[str, str]) -> bool:
    """Whether ultralytics wrote it, whose classifiers take pixels in 0…1 as they are."""
    return metadata.get("author") == "Ultralytics"


def _of_dictionary(text: str) -> list[str]:
    """The names of ``{0: 'cat', 1: 'dog'}``."""
    names: dict[int, str] = {}
    at, end = 1, len(text) - 1
    while at < end:
        entry = _ENTRY.match(text, at, end)
        if entry is None or len(names) >= _MOST_CLASSES:
            return []
        try:
            names[int(entry[1])] = str(ast.literal_eval(entry[2]))  # one text
        except (SyntaxError, ValueError):
            return []
        at = entry.end()
    whole = text.endswith("}") and sorted(names) == list(range(len(names)))
    return [names[i] for i in range(len(names))] if whole else []


def _of_list(text: str) -> list[str]:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    texts = isinstance(found, list) and len(found) <= _MOST_CLASSES
    return found if texts and all(isinstance(name, str) for name in found) else []
