"""Folders that hold something else, ask for code, lead elsewhere, or claim what they have not."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lcam_cli.errors import LcamError
from lcam_cli.networks.registry import load_network
from tests.networks.hugging_face import edit_json, write_folder

transformers: Any = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("huggingface") / "vit"
    write_folder(folder, "vit")
    return folder


@pytest.fixture
def vit(made: Path, tmp_path: Path) -> Path:
    """A copy of a small ViT's folder, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "vit"))


def refused(folder: Path, weights: str = "DEFAULT") -> LcamError:
    """What is said of a folder: one line, of the folder and not of a bug."""
    with pytest.raises(LcamError) as error:
        load_network(f"hf/{folder}", weights)
    assert "\n" not in error.value.what
    assert "internal error" not in error.value.what
    assert error.value.hint
    return error.value


# --- what a config.json describes -----------------------------------------------------------------

OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "keras": ({"module": "keras", "class_name": "Functional"}, "is for a Keras model"),
    "diffusers": ({"_class_name": "UNet2DModel"}, "part of a diffusers pipeline"),
    "timm": ({"architecture": "resnet18", "num_classes": 10}, "is for timm's resnet18"),
    "timm wrapper": (
        {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]},
        "is for timm's models",
    ),
    "peft": ({"peft_type": "LORA"}, "is for a PEFT adapter"),
    "anything": ({"a": 1}, "has no model_type: it is not from transformers"),
    "nothing": ({}, "has no model_type"),
    "a number": ({"model_type": 5}, "has no model_type"),
    "no such type": ({"model_type": "vit9"}, "the model type 'vit9', which transformers .* does"),
    "text": (
        {"model_type": "bert", "architectures": ["BertForSequenceClassification"]},
        "for the class BertForSequenceClassification, for text classification: it is not an image",
    ),
    "text without a class": (
        {"model_type": "bert"},
        "for the model type bert: it is not an image classifier",
    ),
    "clip": (
        {"model_type": "clip", "architectures": ["CLIPModel"], "text_config": {}},
        "CLIPModel",
    ),
    "detection": (
        {"model_type": "detr", "architectures": ["DetrForObjectDetection"]},
        "for object detection",
    ),
    "features": (
        {"model_type": "vit", "architectures": ["ViTModel"]},
        "for the class ViTModel, which has no classes: it outputs features",
    ),
    "class of its own": (
        {"model_type": "vit", "architectures": ["MyViT"]},
        "names the class 'MyViT', which transformers .* does not have",
    ),
    "a class that is none": (
        {"model_type": "vit", "architectures": ["AutoConfig"]},
        "for the class AutoConfig: it is not an image classifier",
    ),
    "code": (
        {"model_type": "vit", "auto_map": {"AutoModelForImageClassification": "custom_code.Net"}},
        r"refused: it asks for its own code \(custom_code.Net\), which lcam never runs",
    ),
    "code of a repository": (
        {"model_type": "mine", "auto_map": {"AutoConfig": "someone/repo--custom_code.Config"}},
        "refused: it asks for its own code",
    ),
    "quantised": (
        {"model_type": "vit", "quantization_config": {"quant_method": "bitsandbytes"}},
        "is for a quantised network",
    ),
    "regression": (
        {
            "model_type": "vit",
            "architectures": ["ViTForImageClassification"],
            "problem_type": "regression",
        },
        "is for regression",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_image_classifier_of_transformers_is_called_by_what_it_is(
    kind: str, tmp_path: Path
) -> None:
    config, words = OTHERS[kind]
    (tmp_path / "config.json").write_text(json.dumps(config))
    ran = tmp_path / "ran"
    for file in ("custom_code.py", "modeling_vit.py", "configuration_vit.py", "__init__.py"):
        (tmp_path / file).write_text(f"open({str(ran)!r}, 'w')")
    assert re.search(words, refused(tmp_path).what)
    assert not ran.exists()


def test_code_in_the_folder_is_never_run(vit: Path) -> None:
    ran = vit / "ran"
    for file in ("custom_code.py", "modeling_vit.py", "configuration_vit.py", "__init__.py"):
        (vit / file).write_text(f"open({str(ran)!r}, 'w')")
    load_network(f"hf/{vit}")
    edit_json(vit / "config.json", auto_map={"AutoModelForImageClassification": "custom_code.Net"})
    refused(vit)
    edit_json(vit / "config.json", auto_map=None)
    edit_json(
        vit / "preprocessor_config.json",
        image_processor_type=None,
        auto_map={"AutoImageProcessor": "custom_code.Processor"},
    )
    assert "its code is never run" in refused(vit).what
    assert not ran.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot read"),
        (b"\x00\xff" * 100, "cannot read"),
        (b"[1, 2]", "holds a list, not an object"),
        (b'{"a": ' * 100_000, "cannot read"),
        (b'{"a": [' + b"9" * 10_000 + b"]}", "cannot read"),
        (b"{" + b" " * 2**24 + b"}", "more than 16,777,216"),
    ],
)
def test_what_is_no_json_object_is_said(vit: Path, content: bytes, words: str) -> None:
    for file in ("preprocessor_config.json", "config.json"):
        (vit / file).write_bytes(content)
        error = refused(vit)
        assert words in error.what
        assert file in error.what


NO_NETWORKS: tuple[dict[str, Any], ...] = (
    {"hidden_size": 200_000},
    {"intermediate_size": 999_999, "hidden_size": 999_998},
    {"hidden_size": 10**9},
    {"num_hidden_layers": 10**9},
    {"num_hidden_layers": 10**5},
    {"image_size": 10**9},
    {"hidden_size": 1e300},
    {"id2label": None, "label2id": None, "num_labels": 10**9},
    {"id2label": {"x": "y"}},
    {"id2label": [1, 2]},
    {"patch_size": 0},
    {"patch_size": -8},
    {"num_attention_heads": 0},
    {"hidden_size": "many"},
    {"hidden_size": None},  # as if it were not there: the default is another
    {"hidden_act": "__import__"},
)


@pytest.mark.parametrize("changes", NO_NETWORKS)
def test_numbers_that_no_network_has_take_no_memory(vit: Path, changes: dict[str, Any]) -> None:
    edit_json(vit / "config.json", **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(vit)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("changes", NO_NETWORKS[:4])
def test_random_weights_take_no_more_memory_than_there_is(
    vit: Path, changes: dict[str, Any]
) -> None:
    edit_json(vit / "config.json", **changes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(vit, "none")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


# --- weights --------------------------------------------------------------------------------------


def test_a_folder_without_weights_says_what_there_is(vit: Path) -> None:
    (vit / "model.safetensors").unlink()
    assert "has no weights" in refused(vit).what
    (vit / "tf_model.h5").touch()
    assert "only for TensorFlow (tf_model.h5)" in refused(vit).what


def test_adapters_are_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    for name in (f"hf/{tmp_path}", str(tmp_path)):
        with pytest.raises(LcamError, match="is a PEFT adapter") as error:
            load_network(name)
        assert "merge_and_unload" in error.value.hint


def test_no_weight_is_left_random(vit: Path) -> None:
    path = vit / "model.safetensors"
    # Copies: load_file maps the file, which is written anew below.
    whole = {name: tensor.clone() for name, tensor in load_file(path).items()}

    def said(state: dict[str, torch.Tensor]) -> str:
        save_file(state, path)
        return refused(vit).what

    base = {k: v for k, v in whole.items() if not k.startswith("classifier")}
    assert "has no classifier: it lacks classifier.bias, classifier.weight" in said(base)
    seven = {"classifier.weight": torch.zeros(7, 16), "classifier.bias": torch.zeros(7)}
    assert "only the head" in said(whole | seven)
    assert "(7, 16) there, but (5, 16) by the config.json" in said(whole | seven)
    name = next(k for k in whole if "query.weight" in k or "q_proj.weight" in k)
    without = {k: v for k, v in whole.items() if k != name}
    assert "it lacks vit." in said(without)
    assert "is (9, 16) there, but (16, 16)" in said(whole | {name: torch.zeros(9, 16)})
    deeper = name.replace(".0.", ".7.").replace(".1.", ".7.")
    assert "is for a larger network" in said(whole | {deeper: torch.zeros(16, 16)})
    assert "does not fit" in said({"something": torch.zeros(3)})
    save_file(whole | {"loss.weight": torch.zeros(2)}, path)
    load_network(f"hf/{vit}")


def test_another_number_of_classes_in_a_file_of_ones_own_is_refused(
    vit: Path, tmp_path: Path
) -> None:
    config = transformers.AutoConfig.from_pretrained(vit, num_labels=9)
    torch.save(transformers.ViTForImageClassification(config).state_dict(), tmp_path / "nine.pt")
    with pytest.raises(LcamError, match=r"only the head of .*nine.pt differs"):
        load_network(f"hf/{vit}", str(tmp_path / "nine.pt"))


def test_a_pickle_that_would_run_code_is_refused(vit: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {vit}/ran",)

    (vit / "model.safetensors").unlink()
    torch.save({"classifier.weight": Evil()}, vit / "pytorch_model.bin")
    assert "would run" in refused(vit).what
    assert not (vit / "ran").exists()


@pytest.mark.parametrize("way", ["up", "absolute", "link", "missing", "text"])
def test_a_table_of_parts_cannot_lead_out_of_the_folder(
    vit: Path, tmp_path: Path, way: str
) -> None:
    outside = tmp_path / "outside.safetensors"
    (vit / "model.safetensors").rename(outside)
    part = {"up": "../outside.safetensors", "absolute": str(outside)}.get(way, "part.safetensors")
    if way == "link":
        (vit / part).symlink_to(outside)
    table = {"weight_map": {"classifier.weight": part}} if way != "text" else {"weight_map": "x"}
    (vit / "model.safetensors.index.json").write_text(json.dumps(table))
    words = {
        "missing": "names part.safetensors, which is missing",
        "text": "has no weight_map",
        "link": "refused: it points outside",
    }
    assert words.get(way, "refused: it names") in refused(vit).what


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_links_out_of_the_folder_are_refused(vit: Path, tmp_path: Path, file: str) -> None:
    shutil.move(vit / file, tmp_path / file)
    (vit / file).symlink_to(tmp_path / file)
    assert f"{file} refused: it points outside" in refused(vit).what


def test_links_in_a_circle_lead_to_no_file(vit: Path) -> None:
    (vit / "preprocessor_config.json").unlink()
    (vit / "preprocessor_config.json").symlink_to("preprocessor_config.json")
    assert "no such file" in refused(vit).what


def test_files_that_never_end_are_not_opened(vit: Path) -> None:
    (vit / "config.json").unlink()
    os.mkfifo(vit / "config.json")
    refused(vit)


def test_a_name_that_is_too_long_is_no_folder() -> None:
    with pytest.raises(LcamError, match="unknown backbone"):
        load_network("x" * 5000)
