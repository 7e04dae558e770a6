"""Means by class, against sums worked by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping

import numpy as np
import pytest

from lcam_cli.measures.measure import quantities
from lcam_cli.measures.scored import ScoredRows
from lcam_cli.reports.by_class import ByClass
from tests.reports.sample import Between, Plain

NAMES = ["=cat", "dog|s", "ow_l"]
NAN = float("nan")


def gathered(labels: Mapping[str, int] | None) -> ByClass:
    """Four maps of two methods: one number each of `number`, two parts of `between`."""
    measured = quantities([Plain("number"), Between()], ())
    classes = ByClass(["gradcam", "random"], measured, NAMES, labels)
    numbers = np.zeros((2, 3, 4), np.float32)
    numbers[0] = [[1, 2, NAN, 6], [5, 7, 1, 1], [1, 1, 0, 2]]
    for part in (slice(0, 1), slice(1, 4)):
        b = len(range(4)[part])
        classes.add(
            ScoredRows(
                paths=["a.jpg", "b.jpg", "c.jpg", "d.jpg"][part],
                class_index=np.array([0, 0, 1, 1], np.int32)[part],
                class_names=["", "", "", ""][part],
                predicted_index=np.array([0, 0, 1, 0], np.int32)[part],
                full=np.ones(b, np.float32),
                masked=np.zeros((2, 0, b), np.float32),
                numbers=numbers[:, :, part],
                mean_saliency=np.zeros((2, b), np.float32),
                flat=np.zeros((2, b), np.bool_),
            )
        )
    return classes


def test_by_the_class_explained() -> None:
    rows = json.loads(gathered(None).render("json"))["rows"]
    # The difference is that of the parts' means: (5 + 7)/2 - (1 + 1)/2 and (1 + 1)/2 - (0 + 2)/2.
    assert rows == [
        {
            "class_index": 0,
            "class": "=cat",
            "method": "gradcam",
            "maps": 2,
            "number": 1.5,
            "between": 5.0,
        },
        {
            "class_index": 1,
            "class": "dog|s",
            "method": "gradcam",
            "maps": 2,
            "number": 6.0,
            "between": 0.0,
        },
    ]


def test_by_the_true_class_with_how_often_it_is_recognised() -> None:
    found = gathered({"a.jpg": 0, "c.jpg": 2, "d.jpg": 0})  # b.jpg has no label
    content = json.loads(found.render("json"))
    assert content["by"] == "true"
    shown = [(row["class"], row["maps"], row["top1"], row["number"]) for row in content["rows"]]
    assert shown == [("=cat", 2, 100.0, 3.5), ("ow_l", 1, 0.0, None)]
    lines = list(csv.DictReader(io.StringIO(found.render("csv"))))
    assert [(line["class"], line["number"]) for line in lines] == [
        ("'=cat", "3.5000"),
        ("ow_l", ""),
    ]


def test_names_are_no_markup() -> None:
    markdown = gathered(None).render("markdown")
    assert markdown.splitlines()[0] == "| class | method | maps | number | between |"
    assert markdown.splitlines()[3] == r"| dog\|s | gradcam | 2 | 6.00 | 0.00 |"
    latex = gathered({"c.jpg": 2}).render("latex")
    assert r"ow\_l & gradcam & 1 & 0.00 & \textendash{} & 1.00 \\" in latex
    with pytest.raises(KeyError):
        gathered(None).render("table")
