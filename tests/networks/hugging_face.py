"""Small Hugging Face classifiers of many architectures, made on the spot, as folders."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# A module's own settings, and those of its processor beside the defaults.
_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_VIT |= {"intermediate_size": 32, "image_size": 32, "patch_size": 8}
_STAGES = {"hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1]}
_SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
_SWIN |= {"image_size": 32, "patch_size": 4}
_EFFICIENT = {
    "width_coefficient": 0.1,
    "depth_coefficient": 0.1,
    "hidden_dim": 128,
    "image_size": 64,
}
_MOBILEVIT = {
    "hidden_sizes": [16, 24, 32],
    "neck_hidden_sizes": [4, 4, 8, 8, 8, 8, 16],
    "num_attention_heads": 2,
    "image_size": 64,
}
_PVT = {
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
    "num_encoder_blocks": 4,
    "image_size": 64,
}
_POOL = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_CLIP = {"vision_config": {**_VIT, "projection_dim": 16}, "text_config": {"hidden_size": 16}}
_FOCAL = {"embed_dim": 8, "depths": [1, 1], "focal_levels": [1, 1], "focal_windows": [3, 3]}
_FOCAL |= {"hidden_sizes": [8, 16], "image_size": 32}
_LEVIT = {
    "image_size": 64,
    "hidden_sizes": [16, 24, 32],
    "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
}
_CVT = {"embed_dim": [8, 16, 16], "num_heads": [1, 2, 2], "depth": [1, 2, 3]}
_SEG = {
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
}
_HIERA = {
    "embed_dim": 8,
    "image_size": [64, 64],
    "depths": [1, 1, 1],
    "num_heads": [1, 2, 2],
    "num_query_pool": 2,
    "query_stride": [2, 2],
}

SIZE_32 = {"height": 32, "width": 32}
SMALL: dict[str, tuple[str, str, dict[str, Any], str, dict[str, Any]]] = {
    # the architecture's name in transformers, its class's ending, settings, processor, settings
    "vit": ("ViT", "", _VIT, "ViT", {"size": SIZE_32}),
    "deit": ("DeiT", "", _VIT, "DeiT", {"size": {"height": 36, "width": 36}, "crop_size": SIZE_32}),
    "deit-distilled": (
        "DeiT",
        "WithTeacher",
        _VIT,
        "DeiT",
        {"size": {"height": 36, "width": 36}, "crop_size": SIZE_32},
    ),
    "beit": ("Beit", "", _VIT, "Beit", {"size": SIZE_32, "do_center_crop": False}),
    "data2vec": ("Data2VecVision", "", _VIT, "Beit", {"size": SIZE_32, "do_center_crop": False}),
    "dinov2": (
        "Dinov2",
        "",
        {**_VIT, "image_size": 56},
        "Bit",
        {"size": {"shortest_edge": 36}, "crop_size": SIZE_32},
    ),
    "dinov2-registers": (
        "Dinov2WithRegisters",
        "",
        {**_VIT, "image_size": 56, "num_register_tokens": 4},
        "Bit",
        {"size": {"shortest_edge": 36}, "crop_size": SIZE_32},
    ),
    "siglip": ("Siglip", "", _CLIP, "Siglip", {"size": SIZE_32}),
    "clip": ("CLIP", "", _CLIP, "CLIP", {"size": {"shortest_edge": 32}, "crop_size": SIZE_32}),
    "ijepa": ("IJepa", "", _VIT, "ViT", {"size": SIZE_32}),
    "vit-msn": ("ViTMSN", "", _VIT, "ViT", {"size": SIZE_32}),
    "swin": ("Swin", "", _SWIN, "ViT", {"size": SIZE_32}),
    "swinv2": ("Swinv2", "", _SWIN, "ViT", {"size": SIZE_32}),
    "convnext": (
        "ConvNext",
        "",
        _STAGES,
        "ConvNext",
        {"size": {"shortest_edge": 64}, "crop_pct": 0.875},
    ),
    "convnextv2": ("ConvNextV2", "", _STAGES, "ConvNext", {"size": {"shortest_edge": 384}}),
    "resnet": (
        "ResNet",
        "",
        {"embedding_size": 8, **_STAGES},
        "ConvNext",
        {"size": {"shortest_edge": 64}, "crop_pct": 0.95},
    ),
    "regnet": (
        "RegNet",
        "",
        {"embedding_size": 8, "groups_width": 8, **_STAGES},
        "ConvNext",
        {"size": {"shortest_edge": 64}},
    ),
    "bit": (
        "Bit",
        "",
        {"embedding_size": 8, "num_groups": 2, **_STAGES},
        "Bit",
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
    ),
    "mobilenet-v1": (
        "MobileNetV1",
        "",
        {"depth_multiplier": 0.25},
        "MobileNetV1",
        {"size": {"shortest_edge": 73}, "crop_size": {"height": 64, "width": 64}},
    ),
    "mobilenet-v2": (
        "MobileNetV2",
        "",
        {"depth_multiplier": 0.25},
        "MobileNetV2",
        {"size": {"shortest_edge": 73}, "crop_size": {"height": 64, "width": 64}},
    ),
    "efficientnet": (
        "EfficientNet",
        "",
        _EFFICIENT,
        "EfficientNet",
        {
            "size": {"height": 64, "width": 64},
            "resample": 0,
            "rescale_factor": 1 / 127.5,
            "rescale_offset": True,
            "include_top": True,
        },
    ),
    "mobilevit": (
        "MobileViT",
        "",
        _MOBILEVIT,
        "MobileViT",
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
    ),
    "mobilevitv2": (
        "MobileViTV2",
        "",
        {"width_multiplier": 0.25, "image_size": 64},
        "MobileViT",
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
    ),
    "poolformer": (
        "PoolFormer",
        "",
        _POOL,
        "PoolFormer",
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    ),
    "pvt": ("Pvt", "", _PVT, "Pvt", {"size": {"height": 64, "width": 64}}),
    "pvt-v2": ("PvtV2", "", _PVT, "Pvt", {"size": {"height": 64, "width": 64}}),
    "levit": (
        "Levit",
        "",
        _LEVIT,
        "Levit",
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    ),
    "cvt": ("Cvt", "", _CVT, "ConvNext", {"size": {"shortest_edge": 64}}),
    "focalnet": (
        "FocalNet",
        "",
        _FOCAL,
        "Bit",
        {"size": {"shortest_edge": 36}, "crop_size": SIZE_32},
    ),
    "segformer": ("Segformer", "", _SEG, "Segformer", {"size": {"height": 64, "width": 64}}),
    "swiftformer": (
        "SwiftFormer",
        "",
        {"depths": [1, 1, 1, 1], "embed_dims": [8, 8, 16, 16], "image_size": 64},
        "ViT",
        {"size": {"height": 64, "width": 64}},
    ),
    "hiera": (
        "Hiera",
        "",
        _HIERA,
        "Bit",
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
    ),
}


def config_of(kind: str, **settings: Any) -> Any:
    """The small configuration of an architecture, of five classes."""
    import transformers

    name, _, own, _, _ = SMALL[kind]
    return getattr(transformers, f"{name}Config")(**{**own, "num_labels": 5, **settings})


def model_of(kind: str, *, seed: int = 0, **settings: Any) -> Any:
    """The small network of an architecture, with weights that are no zeros anywhere."""
    import transformers

    name, ending, *_ = SMALL[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = getattr(transformers, f"{name}ForImageClassification{ending}")(
            config_of(kind, **settings)
        ).eval()
        with torch.no_grad():  # what begins as zeros, or nearly, says nothing of the image
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def processor_of(kind: str, backend: str = "", **settings: Any) -> Any:
    """The processor of an architecture: transformers' default one, or its ``Pil`` one.

    In transformers 4 the default one is on Pillow.
    """
    import transformers

    _, _, _, name, own = SMALL[kind]
    names = (f"{name}ImageProcessor{backend}", f"{name}ImageProcessor")
    found = next(getattr(transformers, n) for n in names if hasattr(transformers, n))
    return found(**{**own, **settings})


def write_folder(
    folder: Path,
    kind: str,
    *,
    processor: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Any:
    """Save a small classifier with its processor, as ``save_pretrained`` does; the network."""
    network = model_of(kind, **(config or {}))
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        network.save_pretrained(folder)
    processor_of(kind, **(processor or {})).save_pretrained(folder)
    return network


def edit_json(path: Path, **changes: Any) -> None:
    """Change settings in a JSON file; None takes one out."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
