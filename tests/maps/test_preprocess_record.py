"""What a file says of its preprocessing: runs that lcam 0.1.0 began go on."""

from __future__ import annotations

from dataclasses import replace

from lcam_cli.images.preprocess import Preprocess
from lcam_cli.maps.record import MapsInfo, preprocess_of_0_1

OLD = {
    "image_size": 224,
    "resize": 256,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
    "fit": "crop",
}


def _info(preprocess: dict[str, object]) -> MapsInfo:
    return MapsInfo("gradcam", "resnet18", "DEFAULT", "layer4", ".", preprocess=preprocess)


def test_what_0_1_0_recorded_is_no_other_preprocessing() -> None:
    now = Preprocess()
    assert preprocess_of_0_1(now.to_json()) == OLD
    assert _info(OLD).difference(_info(now.to_json())) == ""
    assert _info(now.to_json()).difference(_info(OLD)) == ""


def test_the_setting_that_differs_is_named() -> None:
    old = _info(OLD)
    for changed, words in (
        (replace(Preprocess(), window=(0, 4095)), "preprocess window is 'auto', not [0, 4095]"),
        (replace(Preprocess(), crop_rounding="down"), "crop_rounding is 'even', not 'down'"),
        (Preprocess((180, 320), 206), "preprocess image_size is 224, not [180, 320]"),
        (Preprocess().with_channels(1), "preprocess mean is "),
    ):
        assert words in old.difference(_info(changed.to_json()))
