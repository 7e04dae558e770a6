"""The JSON object is the contract's, to the key."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from lcam_cli.measures.accuracy import Accuracy, best_classes
from lcam_cli.reports.nu_key import nu_key
from lcam_cli.reports.results import to_json
from lcam_cli.reports.table import caption
from lcam_cli.version import __version__
from tests.reports.sample import FOUR, results, row


def test_json_is_the_contract() -> None:
    assert json.loads(to_json(results(row("gradcam", (12.345678, 40.0), (78.0, 4.0))))) == {
        "schema": "lcam-results/1",
        "backbone": "vgg16",
        "weights": "IMAGENET1K_V1",
        "layer": "features.29",
        "images": 650,
        "skipped": 2,
        "precision": "fp32",
        "device": "cpu",
        "rows": [
            {
                "method": "gradcam",
                "nu": {
                    "100": {
                        "ad": 12.3457,
                        "ic": 40.0,
                        "ad_ci95": [11.3457, 13.3457],
                        "ic_ci95": [38.0, 42.0],
                    },
                    "12.5": {
                        "ad": 78.0,
                        "ic": 4.0,
                        "ad_ci95": [77.0, 79.0],
                        "ic_ci95": [2.0, 6.0],
                    },
                },
                "forward_passes": 1,
                "mean_saliency": 0.1235,
                "images_per_second": 61.25,
            }
        ],
        "mask_space": "pixel",
        "activation": "softmax",
        "lcam_version": __version__,
        "keep": "values",
    }


def test_keys_come_in_the_contracts_order() -> None:
    loaded = json.loads(to_json(FOUR))
    assert list(loaded) == [
        *("schema", "backbone", "weights", "layer", "images", "skipped"),
        *("precision", "device", "rows", "mask_space", "activation", "lcam_version", "keep"),
    ]
    assert [entry["method"] for entry in loaded["rows"]] == [
        *("lcam-img", "gradcam", "rise", "random"),
    ]


def test_a_number_that_json_does_not_know_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json(results(row("gradcam", (float("nan"), 0.0))))


def test_accuracy_comes_where_labels_were_given() -> None:
    right = Accuracy()
    right.update(best_classes(torch.arange(8, 0, -1).repeat(3, 1)), [0, 4, 7])
    labelled = dataclasses.replace(FOUR, accuracy=right)
    assert json.loads(to_json(labelled))["accuracy"] == {
        "top1": 33.3333,
        "top5": 66.6667,
        "labelled": 3,
    }
    assert "top-1 33.33%, top-5 66.67% on 3 labelled" in caption(labelled)
    assert "accuracy" not in json.loads(to_json(FOUR))


def test_how_nu_is_written() -> None:
    assert [nu_key(nu) for nu in (100, 15.0, 12.5, 0.1)] == ["100", "15", "12.5", "0.1"]
