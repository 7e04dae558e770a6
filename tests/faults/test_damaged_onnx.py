"""Damaged ONNX files: each runs, or is refused in a line, and none ends the program."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.counts import count
from tests.faults.damage import damaged
from tests.faults.many import Commands
from tests.faults.test_damaged_checkpoints import assert_told_in_lines
from tests.networks.onnx_models import channels_last_model, node, residual_model, tiny_model
from tests.tiny import write_pictures

pytest.importorskip("onnxruntime")

COUNT = count(24, 500)
METHOD = ["--method", "scorecam"]


@pytest.mark.slow
def test_damaged_models_run_or_are_refused_in_a_line(tmp_path: Path, lcam: Commands) -> None:
    write_pictures(tmp_path / "photos", 2)
    softmax = tiny_model(node("Softmax", ["y"], "p"), outputs=["p"], sizes=(2, 3, 32, 32))
    models = [tiny_model(), channels_last_model(), residual_model(), softmax]
    blobs = [model.SerializeToString() for model in models]
    rng = random.Random(0)
    options = [
        "--device",
        "cpu",
        "--workers",
        "1",
        "--overwrite",
        "--image-size",
        "32",
        "--method",
        "scorecam",
    ]
    ended = []
    for k in range(COUNT + len(blobs)):
        good = k < len(blobs)
        blob = blobs[k] if good else damaged(rng, blobs, (32, 32))
        (tmp_path / f"{k}.onnx").write_bytes(blob)
        ended.append(
            lcam(tmp_path, ["explain", "photos", "--backbone", f"{k}.onnx", *options, *METHOD])
        )
        # 3: weights that are no numbers any more, on some images.
        assert_told_in_lines(ended[-1]._replace(code=ended[-1].code % 3))
        assert not good or ended[-1].code == 0, ended[-1]
    refused = [one for one in ended if one.code == 2]
    good_memory, memory = ended[len(blobs) - 1].memory, max(one.memory for one in ended)
    print(f"{len(refused)} of {COUNT} refused; at most {memory} KiB, {good_memory} with good ones")
    assert len(refused) > COUNT / 3
    assert memory < 1.5 * good_memory
