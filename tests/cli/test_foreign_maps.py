"""Maps that another program wrote, from docs/maps-format.md alone, are scored like our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lcam_cli.__main__ import run
from lcam_cli.cli.app import lcam_app
from tests.tiny import SMALL, write_pictures

COUNT = 6


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("from tests.tiny import tiny_network as net\n")
    write_pictures(tmp_path / "photos", COUNT)
    return tmp_path


def write_foreign(path: Path, **changes: Any) -> None:
    """What a program that knows the documented format and nothing else would write."""
    rng = np.random.default_rng(0)
    attributes = {
        "schema": "lcam-maps",
        "schema_version": 1,
        "method": "their method",
        "backbone": "own.py:net",
        "weights": "none:seed=0",
        "layer": "3",
        "preprocess": json.dumps(SMALL.to_json()),
        "root": "photos",
        **changes,
    }
    with h5py.File(path, "w") as file:
        file["saliency"] = rng.random((COUNT, 32, 32), np.float32)
        file["path"] = [f"{i:03}.jpg" for i in range(COUNT)]
        file["class_index"] = np.arange(COUNT, dtype=np.int32) % 4
        file["predicted_index"] = np.zeros(COUNT, np.int32)
        file["class_name"] = [str(i % 4) for i in range(COUNT)]
        file["confidence"] = np.full(COUNT, 0.25, np.float32)
        file["crop_box"] = np.tile(np.float32([0, 0, 32, 32]), (COUNT, 1))
        nothing = h5py.string_dtype()
        file.create_dataset("skipped/path", shape=(0,), dtype=nothing)
        file.create_dataset("skipped/reason", shape=(0,), dtype=nothing)
        for name, value in attributes.items():
            if value is not None:
                file.attrs[name] = value


@pytest.fixture
def evaluate(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        code = run(lcam_app(), ["evaluate", "theirs.h5", *words])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"complete": np.int8(1), "method_params": "{}", "weights_file": "", "created": "2020"},
        {"method_params": json.dumps({"forward_passes": 7})},
    ],
)
def test_it_is_scored(
    folder: Path, evaluate: Callable[..., tuple[int, str, str]], more: dict[str, Any]
) -> None:
    write_foreign(folder / "theirs.h5", **more)
    code, out, err = evaluate("--backbone", "own.py:net", "--weights", "none", "--format", "json")
    assert code == 0, err
    result = json.loads(out)
    assert result["images"] == COUNT
    row = result["rows"][0]
    assert row["method"] == "their method"
    assert row["mean_saliency"] == pytest.approx(0.5, abs=0.02)


def test_weights_that_cannot_be_found_are_asked_for(
    folder: Path, evaluate: Callable[..., tuple[int, str, str]]
) -> None:
    """Named by their content alone, they must not be replaced by some download."""
    write_foreign(folder / "theirs.h5", backbone="resnet18", weights="sha256:" + "0" * 64)
    code, _, err = evaluate()
    assert code == 2
    assert "does not say where its weights are (sha256:000000000000…)" in err
    assert "--weights FILE" in err


@pytest.mark.parametrize("name", ["method", "backbone", "weights", "layer", "preprocess", "root"])
def test_what_is_needed_is_named_where_it_is_missing(
    folder: Path, evaluate: Callable[..., tuple[int, str, str]], name: str
) -> None:
    write_foreign(folder / "theirs.h5", **{name: None})
    code, _, err = evaluate("--backbone", "own.py:net")
    assert code == 2
    assert f"attribute {name} is missing" in err
