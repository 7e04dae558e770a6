"""Explain image classifiers in bulk with L-CAM and its rivals.

The library behind the commands::

    from lcam_cli import Engine, explain, load_backbone, make_method

    backbone = load_backbone("resnet50")
    method = make_method("gradcam", backbone)
    for batch in explain(Engine(backbone), method, ["a.jpg", "b.jpg"]):
        print(batch.paths, batch.class_names, batch.saliency.shape)

and the commands themselves::

    from lcam_cli import ExplainOptions, explain_folder

    explain_folder("photos", "maps.h5", ExplainOptions(resume=True))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lcam_cli.version import __version__

if TYPE_CHECKING:
    from lcam_cli.engine.backbone import Backbone, load_backbone
    from lcam_cli.engine.contrast import Contrast
    from lcam_cli.engine.engine import Engine, Forward
    from lcam_cli.errors import Interrupted, LcamError
    from lcam_cli.images.preprocess import Preprocess
    from lcam_cli.maps.hdf5.reader import MapsFile
    from lcam_cli.maps.overlay import overlay
    from lcam_cli.maps.record import MapBatch
    from lcam_cli.measures.diagnose import diagnose
    from lcam_cli.measures.evaluate import evaluate
    from lcam_cli.methods.attention import Attention
    from lcam_cli.methods.attention_file import load_attention
    from lcam_cli.methods.base import Maps, Method
    from lcam_cli.methods.explain import ClassChoice, explain
    from lcam_cli.methods.lcam import LCam
    from lcam_cli.methods.options import MethodOptions
    from lcam_cli.methods.registry import make_method
    from lcam_cli.reports.diagnosis import DiagnosisReport
    from lcam_cli.reports.methods import MethodList
    from lcam_cli.reports.results import Results
    from lcam_cli.reports.sanity import SanityReport
    from lcam_cli.runs.compare import compare_folder
    from lcam_cli.runs.compare_options import CompareOptions
    from lcam_cli.runs.compare_outcome import CompareResult
    from lcam_cli.runs.diagnose import diagnose_folder
    from lcam_cli.runs.diagnose_options import DiagnoseOptions
    from lcam_cli.runs.diagnose_outcome import DiagnoseResult
    from lcam_cli.runs.evaluate import evaluate_maps
    from lcam_cli.runs.evaluate_options import EvaluateOptions
    from lcam_cli.runs.evaluate_outcome import EvaluateResult
    from lcam_cli.runs.explain import explain_folder
    from lcam_cli.runs.explain_options import ExplainOptions
    from lcam_cli.runs.explain_outcome import ExplainResult
    from lcam_cli.runs.merge import merge_shards
    from lcam_cli.runs.methods import list_methods
    from lcam_cli.runs.methods_options import MethodsOptions
    from lcam_cli.runs.options import (
        BackboneOptions,
        EngineOptions,
        OverlayOptions,
        PictureOptions,
    )
    from lcam_cli.runs.reporter import Progress, Reporter
    from lcam_cli.runs.result_files import UnwrittenPageError
    from lcam_cli.runs.sanity import sanity_check
    from lcam_cli.runs.sanity_options import SanityOptions
    from lcam_cli.runs.sanity_outcome import SanityResult
    from lcam_cli.runs.train import train_attention
    from lcam_cli.runs.train_options import TrainOptions
    from lcam_cli.runs.train_outcome import TrainResult
    from lcam_cli.training.loop import TrainingSettings, train
    from lcam_cli.training.recipes import Recipe, recipe_for

# Loaded when first used: `lcam --help` must not wait for torch.
_WHERE = {
    "Attention": "methods.attention",
    "Backbone": "engine.backbone",
    "BackboneOptions": "runs.options",
    "ClassChoice": "methods.explain",
    "CompareOptions": "runs.compare_options",
    "CompareResult": "runs.compare_outcome",
    "Contrast": "engine.contrast",
    "DiagnoseOptions": "runs.diagnose_options",
    "DiagnoseResult": "runs.diagnose_outcome",
    "DiagnosisReport": "reports.diagnosis",
    "Engine": "engine.engine",
    "EngineOptions": "runs.options",
    "EvaluateOptions": "runs.evaluate_options",
    "EvaluateResult": "runs.evaluate_outcome",
    "ExplainOptions": "runs.explain_options",
    "ExplainResult": "runs.explain_outcome",
    "Forward": "engine.engine",
    "Interrupted": "errors",
    "LCam": "methods.lcam",
    "LcamError": "errors",
    "MapBatch": "maps.record",
    "Maps": "methods.base",
    "MapsFile": "maps.hdf5.reader",
    "Method": "methods.base",
    "MethodList": "reports.methods",
    "MethodOptions": "methods.options",
    "MethodsOptions": "runs.methods_options",
    "OverlayOptions": "runs.options",
    "PictureOptions": "runs.options",
    "Preprocess": "images.preprocess",
    "Progress": "runs.reporter",
    "Recipe": "training.recipes",
    "Reporter": "runs.reporter",
    "Results": "reports.results",
    "SanityOptions": "runs.sanity_options",
    "SanityReport": "reports.sanity",
    "SanityResult": "runs.sanity_outcome",
    "TrainOptions": "runs.train_options",
    "TrainResult": "runs.train_outcome",
    "TrainingSettings": "training.loop",
    "UnwrittenPageError": "runs.result_files",
    "compare_folder": "runs.compare",
    "diagnose": "measures.diagnose",
    "diagnose_folder": "runs.diagnose",
    "evaluate": "measures.evaluate",
    "evaluate_maps": "runs.evaluate",
    "explain": "methods.explain",
    "explain_folder": "runs.explain",
    "list_methods": "runs.methods",
    "load_attention": "methods.attention_file",
    "load_backbone": "engine.backbone",
    "make_method": "methods.registry",
    "merge_shards": "runs.merge",
    "overlay": "maps.overlay",
    "recipe_for": "training.recipes",
    "sanity_check": "runs.sanity",
    "train": "training.loop",
    "train_attention": "runs.train",
}

__all__ = [
    "Attention",
    "Backbone",
    "BackboneOptions",
    "ClassChoice",
    "CompareOptions",
    "CompareResult",
    "Contrast",
    "DiagnoseOptions",
    "DiagnoseResult",
    "DiagnosisReport",
    "Engine",
    "EngineOptions",
    "EvaluateOptions",
    "EvaluateResult",
    "ExplainOptions",
    "ExplainResult",
    "Forward",
    "Interrupted",
    "LCam",
    "LcamError",
    "MapBatch",
    "Maps",
    "MapsFile",
    "Method",
    "MethodList",
    "MethodOptions",
    "MethodsOptions",
    "OverlayOptions",
    "PictureOptions",
    "Preprocess",
    "Progress",
    "Recipe",
    "Reporter",
    "Results",
    "SanityOptions",
    "SanityReport",
    "SanityResult",
    "TrainOptions",
    "TrainResult",
    "TrainingSettings",
    "UnwrittenPageError",
    "__version__",
    "compare_folder",
    "diagnose",
    "diagnose_folder",
    "evaluate",
    "evaluate_maps",
    "explain",
    "explain_folder",
    "list_methods",
    "load_attention",
    "load_backbone",
    "make_method",
    "merge_shards",
    "overlay",
    "recipe_for",
    "sanity_check",
    "train",
    "train_attention",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
