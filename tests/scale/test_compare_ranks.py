"""``lcam compare`` by several ranks: the rows of one process."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.scale.starting import by_hand, warm_torchrun
from tests.scale.test_explain_ranks import NETWORK, folder, lcam  # noqa: F401 (a fixture)

COMPARE = ["compare", "photos", *NETWORK, "--methods", "gradcam,gradcam++,rise,sidu"]
COMPARE += ["--rise-masks", "60", "--batch-size", "4", "--device", "cpu", "--workers", "1"]
COMPARE += ["--format", "json", "--nu", "50,15"]
MINUTE = 60.0


def comparable(text: str) -> Any:
    """A result without its speeds and the name of the file beside it."""
    result = json.loads(text)
    result.pop("per_image", None)
    for row in result["rows"]:
        row.pop("images_per_second")
    return result


@pytest.mark.slow
def test_two_ranks_score_what_one_process_scores(
    folder: Path,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:
    names = sorted(path.name for path in (folder / "photos").iterdir())
    lines = [f"{name} {k % 2}" for k, name in enumerate(names)]
    (folder / "labels.txt").write_text("\n".join(lines))
    boxes = [f"{name},1000,1000,1001,1001" for name in names[:-1]]
    (folder / "boxes.csv").write_text("\n".join([*boxes, f"{names[-1]},0,0,9,9"]))
    compare = [*COMPARE, "--labels", "labels.txt", "--metrics", "energy", "--boxes", "boxes.csv"]
    alone = ["--out", "whole.h5", "--state", "one", "--per-image", "whole.csv"]
    assert lcam(*compare, *alone) == 3
    done = capfd.readouterr()
    whole = comparable(done.out)
    (outside,) = (line for line in done.err.splitlines() if "a box is outside" in line)
    assert whole["accuracy"]["labelled"] == whole["images"]
    outputs = ["--out", "maps.h5", "--report", "r", "--figure", "f.png", "--per-image", "both.csv"]
    both = warm_torchrun(folder, [*compare, *outputs], 2)
    out, err = both.communicate()
    assert out, err
    assert comparable(out) == whole
    assert err.count("skipped photos/007-bad.jpg") == 1
    assert err.splitlines().count(outside) == 1, "the first tells what all have found"
    assert "compare: 93/93 images" in err, "three sweeps"
    assert (folder / "r" / "index.html").is_file()
    assert (folder / "f.png").is_file()
    assert (folder / "both.csv").read_text() == (folder / "whole.csv").read_text()
    with h5py.File("maps.h5") as ours, h5py.File("whole.h5") as theirs:
        assert sorted(ours) == sorted(theirs) == ["gradcam", "gradcam++", "random", "rise", "sidu"]
        for name in ours:
            for column in ("path", "saliency", "confidence", "skipped/path"):
                np.testing.assert_array_equal(ours[name][column][()], theirs[name][column][()])
    # What ranks left, one process takes over.
    assert lcam(*compare, "--resume") == 3
    again = capfd.readouterr()
    assert "reused from an earlier run: gradcam, gradcam++, rise, sidu, random" in again.err
    assert comparable(again.out) == whole


@pytest.mark.slow
def test_a_comparison_outlives_a_rank(
    folder: Path,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert lcam(*COMPARE, "--state", "one") == 3
    whole = comparable(capfd.readouterr().out)
    # Enough masks that the last rank is still at them when it is killed.
    ranks = by_hand(folder, COMPARE, 2)
    state, deadline = folder / "runs" / "compare", time.monotonic() + MINUTE
    while not (kept := list(state.glob("*/*.npz"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept, "no part was finished"
    ranks[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    _, err = ranks[0].communicate()
    assert time.monotonic() - began < MINUTE
    if ranks[0].returncode == 2:  # else both had finished
        assert f"rank 1 (process {ranks[1].pid}" in err
        assert "continue with the same command and --resume" in err
    ranks[1].communicate()
    assert lcam(*COMPARE, "--resume") == 3
    assert comparable(capfd.readouterr().out) == whole
