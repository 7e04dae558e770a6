"""What a ``config.json`` describes: a classifier of transformers' own, or what it is instead.

The file comes from strangers. It chooses among transformers' image classifiers and sets their
numbers, and nothing else: no code outside transformers, no download, no kernel, no quantiser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lcam_cli.errors import LcamError, one_line
from lcam_cli.networks.huggingface_folder import CONFIG, Folder, quietly

_RECIPES = "pass a function that returns the network (docs/own-network.md)"
_CLASSIFIER = "use a model for image classification"
# Kept from transformers: what would change how the network runs, or what it returns.
_LEFT_OUT = re.compile(
    r"_.*|.*attn_implementation.*|.*experts_implementation.*|(use_)?return_dict|output_attentions"
    r"|output_hidden_states|torchscript|(torch_)?dtype|fusion_config|distributed_config"
    r"|kernel_config|use_kernels|transformers_weights|gguf_file|use_pretrained_backbone"
    r"|name_or_path|pruned_heads"
)
_MOST = 10**6
"""The largest whole number that any setting has: far above classes, widths, depths and words."""

_TASKS = {
    "CausalLM": "text generation",
    "ConditionalGeneration": "text generation",
    "DepthEstimation": "depth estimation",
    "ImageToImage": "image to image",
    "InstanceSegmentation": "segmentation",
    "Keypoint": "keypoints",
    "MaskedImageModeling": "pretraining",
    "MaskedLM": "text",
    "ObjectDetection": "object detection",
    "PreTraining": "pretraining",
    "QuestionAnswering": "text",
    "SemanticSegmentation": "segmentation",
    "SequenceClassification": "text classification",
    "TokenClassification": "text",
    "UniversalSegmentation": "segmentation",
    "VideoClassification": "video classification",
    "AudioClassification": "sound classification",
    "ZeroShotImageClassification": "zero-shot classification",
}


@dataclass(frozen=True)
class Description:
    """An image classifier as its ``config.json`` describes it.

    Attributes:
        model_class: transformers' class of it.
        config: transformers' configuration.
        model_type: transformers' name for the architecture.
        settings: The file's content.
    """

    model_class: Any
    config: Any
    model_type: str
    settings: Mapping[str, Any]

    def number(self, name: str) -> int | None:
        """A whole number of the configuration, or of its part for images."""
        sizes = self.sizes(name)
        return sizes[0] if sizes else None

    def sizes(self, name: str) -> tuple[int, int] | None:
        """The same for what may be one number or two, as rows and columns are."""
        parts = (self.config, getattr(self.config, "vision_config", None))
        for value in (getattr(part, name, None) for part in parts):
            if isinstance(value, int):
                return value, value
            if isinstance(value, list | tuple) and len(value) == 2:
                return int(value[0]), int(value[1])
        return None


def read_description(name: str, folder: Folder) -> Description:
    """Read what a folder's ``config.json`` describes.

    Raises:
        LcamError: It describes no image classifier of transformers', asks for code or for
            anything else that is not read, or is no such file.
    """
    settings = folder.read_json(CONFIG)
    where = f"{folder.repository or folder.path}/{CONFIG}"
    if settings is None:
        raise LcamError(
            f"{name}: there is no {where}", "pass the folder that save_pretrained wrote"
        )
    _check_kind(where, settings)
    _check_no_code(where, settings)
    _check_numbers(where, settings)
    names = _classes_of(where, settings)
    config = _make_config(where, settings)
    if getattr(config, "problem_type", None) == "regression":
        raise LcamError(
            f"{where} is for regression: it predicts numbers and has no classes",
            "use a classifier: lcam explains class scores",
        )
    import transformers  # noqa: PLC0415 (an extra)

    model_class = getattr(transformers, names[0])
    return Description(model_class, config, settings["model_type"], settings)


def _check_kind(where: str, settings: Mapping[str, Any]) -> None:
    """Call a ``config.json`` that is not of transformers' by what it is."""
    if isinstance(settings.get("model_type"), str) and settings["model_type"] != "timm_wrapper":
        return
    timm = settings.get("architecture")
    if isinstance(timm, str) or settings.get("model_type") == "timm_wrapper":
        raise LcamError(
            f"{where} is for timm's {timm or 'models'}",
            f"--backbone timm/{timm or 'NAME'} --weights "
            f"{where.removesuffix(CONFIG)}model.safetensors",
        )
    if "_class_name" in settings or "_diffusers_version" in settings:
        kind = "part of a diffusers pipeline, which generates images"
    elif "keras" in str(settings.get("module", "")) or "class_name" in settings:
        kind = "for a Keras model"
    elif "peft_type" in settings:
        kind = "for a PEFT adapter"
    else:
        raise LcamError(
            f"{where} has no model_type: it is not from transformers",
            f"{_CLASSIFIER}, or {_RECIPES}",
        )
    raise LcamError(f"{where} is {kind}", f"{_CLASSIFIER}, or {_RECIPES}")


def _check_no_code(where: str, settings: Mapping[str, Any]) -> None:
    if asked := settings.get("auto_map"):
        code = ", ".join(map(str, asked.values())) if isinstance(asked, dict) else str(asked)
        raise LcamError(
            f"{where} refused: it asks for its own code ({code:.100}), which lcam never runs",
            "use a model that transformers includes, or, if you trust the code, " + _RECIPES,
        )
    if settings.get("quantization_config"):
        raise LcamError(
            f"{where} is for a quantised network, which needs its quantiser's code",
            "pass the weights from before quantisation",
        )


def _check_numbers(where: str, settings: Mapping[str, Any]) -> None:
    """Check that no number is beyond any network: configurations make lists of such lengths."""
    waiting: list[tuple[str, Any]] = list(settings.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(k), v) for k, v in value.items()]
        elif isinstance(value, list):
            waiting += [(key, v) for v in value]
        elif isinstance(value, int | float) and abs(value) > _MOST and key[:1] != "_":
            few = f"{value:.3g}" if isinstance(value, float) else f"{value:,}"
            raise LcamError(
                f"{where} says {key} {few:.30}, which is not possible", "download the folder again"
            )


def _classes_of(where: str, settings: Mapping[str, Any]) -> list[str]:
    """The names of transformers' classes, the likeliest first, that the file may mean.

    Raises:
        LcamError: transformers has no such architecture, or none for image classification.
    """
    import transformers  # noqa: PLC0415 (an extra)
    from transformers.models.auto import modeling_auto  # noqa: PLC0415

    kind, given = settings["model_type"], settings.get("architectures")
    named = given[0] if isinstance(given, list) and given and isinstance(given[0], str) else ""
    known = [str(key) for key in transformers.CONFIG_MAPPING]
    version = f"transformers {transformers.__version__}"
    own = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.get(kind)
    lacking = "" if kind in known else f"the model type {kind!r}"
    if named and not lacking and not hasattr(transformers, named):
        lacking = f"the class {named!r}"
    if lacking:
        raise LcamError(
            f"{where} names {lacking}, which {version} does not have",
            f"pip install -U transformers, if a newer version has it; otherwise {_RECIPES}",
        )
    classes = [own] if isinstance(own, str) else list(own or ())
    if named in classes:
        return [named]
    if classes and not named:
        return classes
    what = f"the class {named}" if named else f"the model type {kind}"
    task = next((words for part, words in _TASKS.items() if part in named), "")
    if classes and not task and named.endswith("Model") and not _has_text(settings):
        raise LcamError(
            f"{where} is for {what}, which has no classes: it outputs features",
            f"fine-tune it with a head ({classes[0]}) and pass that folder",
        )
    if _has_text(settings):
        raise LcamError(
            f"{where} is for {what}, which compares images with texts: it has no classes",
            "to classify by texts, pass a function whose head is the embeddings of the texts "
            "(docs/recipes.md, CLIP)",
        )
    raise LcamError(
        f"{where} is for {what}{f', for {task}' if task else ''}: it is not an image classifier",
        f"{_CLASSIFIER}, or {_RECIPES}",
    )


def _has_text(settings: Mapping[str, Any]) -> bool:
    """Whether it is a model of images and text, as CLIP is."""
    return "text_config" in settings or "text_config_dict" in settings


def _make_config(where: str, settings: Mapping[str, Any]) -> Any:
    """The configuration, as transformers has it, of the settings that describe the network.

    Raises:
        LcamError: transformers refuses one of them.
    """
    import transformers  # noqa: PLC0415 (an extra)

    try:
        with quietly():
            kind = transformers.CONFIG_MAPPING[settings["model_type"]]
            return kind.from_dict(_plain(settings))
    except Exception as error:  # checks of all kinds, and code that meets what it does not expect
        raise LcamError(
            f"{where} cannot be read by transformers {transformers.__version__}: {one_line(error)}",
            "download the folder again, or write it again with save_pretrained",
        ) from None


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that describe a network, also within parts."""
    return {
        key: _plain(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if not _LEFT_OUT.fullmatch(key)
    }
