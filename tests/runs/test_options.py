"""Options and arguments are checked at once, and brought to one form."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcam_cli import (
    BackboneOptions,
    CompareOptions,
    DiagnoseOptions,
    EngineOptions,
    EvaluateOptions,
    ExplainOptions,
    LcamError,
    OverlayOptions,
    PictureOptions,
    Reporter,
    TrainOptions,
    compare_folder,
    diagnose_folder,
    evaluate_maps,
    explain_folder,
    train_attention,
)

KINDS = [
    BackboneOptions,
    EngineOptions,
    PictureOptions,
    OverlayOptions,
    ExplainOptions,
    TrainOptions,
    EvaluateOptions,
    CompareOptions,
    DiagnoseOptions,
]
FUNCTIONS = [
    (explain_folder, ("photos",), ExplainOptions),
    (train_attention, ("photos",), TrainOptions),
    (evaluate_maps, ("maps.h5",), EvaluateOptions),
    (compare_folder, ("photos",), CompareOptions),
    (diagnose_folder, ("photos", "folders"), DiagnoseOptions),
]


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_takes_anything(kind: Any) -> None:
    """A field without a check would fail where any options are made."""
    for field in dataclasses.fields(kind):
        with pytest.raises(LcamError) as refused:
            kind(**{field.name: object()})
        assert refused.value.what.startswith(f"{kind.__name__}.{field.name} cannot be <object")
        assert refused.value.hint.startswith("pass ")


def test_the_message_says_what_to_give() -> None:
    with pytest.raises(LcamError) as refused:
        EvaluateOptions(mask_space="pixels")  # type: ignore[arg-type]
    assert (refused.value.what, refused.value.hint) == (
        "EvaluateOptions.mask_space cannot be 'pixels'",
        "pass 'pixel' or 'normalized'; did you mean 'pixel'?",
    )
    with pytest.raises(LcamError) as refused:
        ExplainOptions(top_k=0)
    assert str(refused.value) == "ExplainOptions.top_k cannot be 0\npass a whole number from 1"


WRONG: list[tuple[Any, dict[str, Any]]] = [
    (BackboneOptions, {"image_size": "64"}),
    (BackboneOptions, {"image_size": 0}),
    (BackboneOptions, {"resize": -1}),
    (BackboneOptions, {"image_size": (64, 0)}),
    (BackboneOptions, {"image_size": (64, 32, 3)}),
    (BackboneOptions, {"channels": 0}),
    (BackboneOptions, {"mean": ()}),
    (BackboneOptions, {"window": (5, 5)}),
    (BackboneOptions, {"window": (float("nan"), 5)}),
    (BackboneOptions, {"window": "whole"}),
    (BackboneOptions, {"std": (0.5, 0.5, float("nan"))}),
    (BackboneOptions, {"fit": "border"}),
    (BackboneOptions, {"activation": "relu"}),
    (BackboneOptions, {"classes": ["a", "b"]}),
    (EngineOptions, {"batch_size": 0}),
    (EngineOptions, {"batch_size": 2.5}),
    (EngineOptions, {"batch_size": True}),
    (EngineOptions, {"workers": -1}),
    (EngineOptions, {"max_pixels": 0}),
    (EngineOptions, {"device": "gpu"}),
    (EngineOptions, {"precision": "fp8"}),
    (PictureOptions, {"max_images": 0}),
    (PictureOptions, {"listed": ["a.jpg"]}),
    (PictureOptions, {"strict": 1}),
    (OverlayOptions, {"alpha": 1.5}),
    (OverlayOptions, {"picture_format": "gif"}),
    (ExplainOptions, {"map_dtype": "float64"}),
    (ExplainOptions, {"shard": (2, 2)}),
    (ExplainOptions, {"shard": (-1, 2)}),
    (ExplainOptions, {"shard": "0/2"}),
    (ExplainOptions, {"seed": -3}),
    (ExplainOptions, {"seed": 2**63}),
    (ExplainOptions, {"class_names": None}),
    (ExplainOptions, {"engine": {"batch_size": 4}}),
    (TrainOptions, {"mode": "image"}),
    (TrainOptions, {"recipe": "papers"}),
    (TrainOptions, {"init": "rand"}),
    (TrainOptions, {"loss": "cee"}),
    (TrainOptions, {"epochs": 0}),
    (TrainOptions, {"lr": -0.1}),
    (TrainOptions, {"lambda4": "0.3"}),
    (TrainOptions, {"out": ""}),
    (EvaluateOptions, {"nu": ()}),
    (EvaluateOptions, {"nu": "50"}),
    (EvaluateOptions, {"nu": (50.0, 101.0)}),
    (EvaluateOptions, {"max_ad": float("nan")}),
    (EvaluateOptions, {"format": "yaml"}),
    (CompareOptions, {"rise_masks": 0}),
    (CompareOptions, {"rise_cells": 0}),
    (CompareOptions, {"rise_p": 1.0}),
    (CompareOptions, {"state": None}),
    (CompareOptions, {"methods": 3}),
    (DiagnoseOptions, {"nu": 0}),
    (DiagnoseOptions, {"same_region": 5}),
    (DiagnoseOptions, {"evidence": -1}),
    (DiagnoseOptions, {"format": "latex"}),
]


@pytest.mark.parametrize(("kind", "wrong"), WRONG)
def test_what_there_is_not(kind: Any, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(LcamError, match="RISE with p" if name == "rise_p" else name):
        kind(**wrong)


RIGHT: list[tuple[Any, dict[str, Any], Any]] = [
    (BackboneOptions, {"mean": [0.5, 0.5, 0.5]}, (0.5, 0.5, 0.5)),
    (BackboneOptions, {"std": np.full(3, 0.5, np.float32)}, (0.5, 0.5, 0.5)),
    (BackboneOptions, {"classes": "names.txt"}, Path("names.txt")),
    (EngineOptions, {"batch_size": np.int64(4)}, 4),
    (OverlayOptions, {"folder": "overlays"}, Path("overlays")),
    (OverlayOptions, {"alpha": np.float32(0.5)}, 0.5),
    (ExplainOptions, {"class_names": "boat"}, ("boat",)),
    (ExplainOptions, {"class_names": 3}, ("3",)),
    (ExplainOptions, {"class_names": [np.int64(3), "boat"]}, ("3", "boat")),
    (ExplainOptions, {"class_names": (name for name in ("a", "b"))}, ("a", "b")),
    (ExplainOptions, {"backbone": "resnet50"}, BackboneOptions("resnet50")),
    (ExplainOptions, {"attention": "runs/a"}, Path("runs/a")),
    (ExplainOptions, {"shard": [0, 2]}, (0, 2)),
    (ExplainOptions, {"align": np.bool_(True)}, True),
    (TrainOptions, {"layers": "layer4"}, ("layer4",)),
    (TrainOptions, {"lr": 1}, 1.0),
    (EvaluateOptions, {"nu": 50}, (50.0,)),
    (EvaluateOptions, {"images": "photos"}, Path("photos")),
    (EvaluateOptions, {"labels": Path("labels.txt")}, "labels.txt"),
    (CompareOptions, {"methods": "gradcam"}, ("gradcam",)),
    (CompareOptions, {"metrics": "insertion"}, ("insertion",)),
    (CompareOptions, {"attentions": "runs/a"}, (Path("runs/a"),)),
    (CompareOptions, {"state": "kept"}, Path("kept")),
    (DiagnoseOptions, {"report": "page"}, Path("page")),
]


@pytest.mark.parametrize(("kind", "given", "kept"), RIGHT)
def test_what_is_kept(kind: Any, given: dict[str, Any], kept: Any) -> None:
    (name,) = given
    found = getattr(kind(**given), name)
    assert (found, type(found)) == (kept, type(kept))
    if isinstance(kept, tuple):
        assert list(map(type, found)) == list(map(type, kept))


@pytest.mark.parametrize(("function", "words", "kind"), FUNCTIONS)
def test_arguments_of_a_wrong_kind(
    function: Any,
    words: tuple[str, ...],
    kind: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    other = TrainOptions if kind is ExplainOptions else ExplainOptions
    for named, wrong in (
        ("options", {"options": other()}),
        ("options", {"options": {"seed": 1}}),
        ("reporter", {"reporter": print}),
        ("stop", {"stop": None}),
        ("stop", {"stop": True}),
    ):
        with pytest.raises(LcamError, match=rf"^{named} cannot be "):
            function(*words, **wrong)
    with pytest.raises(LcamError, match="pass its is_set"):
        function(*words, stop=threading.Event())
    for inputs in (None, 3, [3], b"photos", np.zeros((2, 3))):
        with pytest.raises(LcamError, match=r"^(images|data|maps) cannot be "):
            function(inputs, *words[1:])
    with pytest.raises(LcamError, match=r"^Reporter\.on_info cannot be 3"):
        Reporter(on_info=3)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir()), "nothing is made first"


def test_arguments_of_one_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for out in ("", None, 3, b"maps.h5", ExplainOptions()):
        with pytest.raises(LcamError, match=r"^out cannot be "):
            explain_folder("photos", out)  # type: ignore[arg-type]
    with pytest.raises(LcamError, match=r"^labels cannot be "):
        diagnose_folder("photos", DiagnoseOptions())  # type: ignore[arg-type]
