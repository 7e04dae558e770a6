"""A colour bar on request, by the real command and from lcam.toml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcam_cli.maps.caption import joined
from lcam_cli.maps.colour_bar import colour_bar
from lcam_cli.maps.overlay import colour_table
from tests.cli import job
from tests.cli.job import Lcam

lcam = job.lcam

COMMAND = ["explain", "photos", "--method", "gradcam", "--backbone", "own.py:net"]
COMMAND += ["--weights", "none", "--image-size", "32", "--device", "cpu", "--workers", "1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One deep image, of 12 bits."""
    job.begin(tmp_path, monkeypatch, "from tests.tiny import tiny_network as net\n", 0)
    Path("photos").mkdir(exist_ok=True)
    values = np.linspace(0, 4095, 240 * 200).astype(np.uint16).reshape(200, 240)
    Image.fromarray(values).save("photos/deep.png")


def drawn(lcam: Lcam, out: str, *words: str) -> Image.Image:
    done = lcam(*COMMAND, *words, "--out", f"{out}.h5", "--overlays", out)
    assert done.code == 0, done.err
    return Image.open(next(Path(out).glob("*.png"))).convert("RGB")


def test_it_shows_the_window_that_was_given(lcam: Lcam) -> None:
    window = ("--window", "0,4095")
    without = drawn(lcam, "without", *window)
    assert without.size == (240, 200 + 16), "the class and its score stand below"
    asked = drawn(lcam, "asked", *window, "--colorbar", "--colormap", "jet")
    plain = drawn(lcam, "plain", *window, "--colormap", "jet")
    expected = joined(plain, [colour_bar((240, 200), colour_table("jet"), (0.0, 4095.0))])
    np.testing.assert_array_equal(np.asarray(asked), np.asarray(expected))
    assert asked.height == 200 + 3 * 16, "a line for the window"


def test_from_lcam_toml_and_without_a_window(lcam: Lcam) -> None:
    Path("lcam.toml").write_text("[explain]\ncolorbar = true\n")
    asked = drawn(lcam, "asked")
    plain = drawn(lcam, "plain", "--no-colorbar")
    assert plain.size == (240, 200 + 16)
    # No window is given, so there are no numbers.
    expected = joined(plain, [colour_bar((240, 200), colour_table("inferno"))])
    np.testing.assert_array_equal(np.asarray(asked), np.asarray(expected))


def test_without_overlays_it_is_said_that_there_is_no_bar(lcam: Lcam) -> None:
    done = lcam(*COMMAND, "--out", "maps.h5", "--colorbar", "--smooth", "--contour", "15")
    assert done.code == 0
    said = "--contour and --colorbar and --smooth have no effect without overlays"
    assert done.err.count(said) == 1
    done = lcam(*COMMAND, "--out", "more.h5", "--contour", "15", "--regions", "boxes.csv")
    assert "no effect" not in done.err


def test_what_lies_outside_the_crop_is_named_once_with_what_to_do(lcam: Lcam) -> None:
    for fit, times in (("crop", 1), ("squash", 0), ("pad", 0)):
        done = lcam(*COMMAND, "--out", f"{fit}.h5", "--overlays", fit, "--fit", fit)
        assert done.err.count("outside the crop") == times
        assert done.err.count("--fit squash or --fit pad") == times
