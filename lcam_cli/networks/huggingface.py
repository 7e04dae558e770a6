"""``hf/ORG/NAME``, ``hf/DIR`` or ``DIR``: image classifiers of transformers, which is an extra.

A folder is read without a network. It never brings code: what runs is transformers' own.
"""

from __future__ import annotations

import re
from typing import Any

from lcam_cli.errors import LcamError
from lcam_cli.extras import install_hint, not_installed
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.huggingface_config import Description, read_description
from lcam_cli.networks.huggingface_folder import find_folder
from lcam_cli.networks.huggingface_pictures import read_pictures
from lcam_cli.networks.huggingface_weights import flip_input, load_module, random_module
from lcam_cli.networks.network import Network

_OLDEST = (4, 49)
# Tokens before those of patches, where there may be several.
_CLASS_TOKENS = {"deit": 2, "dinov2_with_registers": 1}
_ACTIVATIONS = {"multi_label_classification": "sigmoid", "single_label_classification": "softmax"}


def huggingface_network(name: str, weights: str, seed: int) -> Network:
    """Load a Hugging Face image classifier.

    Args:
        name: ``hf/ORG/NAME`` (of the hub, from its cache or downloaded), ``hf/DIR`` or ``DIR``, a
            folder as ``save_pretrained`` writes it.
        weights: ``"DEFAULT"`` (the folder's), ``"none"`` (random, from ``seed``), or a file of the
            same architecture.
        seed: For ``"none"``.

    Raises:
        LcamError: transformers is not installed, there is no such folder, it describes no image
            classifier of transformers', or weights do not fit.
    """
    _check_installed()
    folder = find_folder(name, weights)
    described = read_description(name, folder)
    pictures = read_pictures(name, folder, described)
    if weights == "none":
        network = Network(random_module(name, described, seed), name, f"none:seed={seed}")
    else:
        path = str(folder.find_weights().absolute()) if weights == "DEFAULT" else weights
        module, file = load_module(name, described, path)
        # The path as it is: what links of the hub's cache lead to has no suffix.
        found = file.found_at if weights != "DEFAULT" else path
        network = Network(module, name, file.identity, found)
    if pictures.is_flipped:
        flip_input(name, network.module, pictures.preprocess.channels)
    network.preprocess = pictures.preprocess
    network.class_names = _class_names(described)
    network.activation = _ACTIVATIONS.get(str(described.settings.get("problem_type")), "")
    network.grid = _grid(described, network.preprocess)
    return network


def _check_installed() -> None:
    try:
        import transformers  # noqa: PLC0415 (an extra)
    except ImportError:
        raise not_installed("transformers", "hf") from None
    version = tuple(int(part) for part in re.findall(r"\d+", transformers.__version__)[:2])
    if version < _OLDEST:
        raise LcamError(f"transformers {transformers.__version__} is too old", install_hint("hf"))


def _class_names(described: Description) -> list[str]:
    """The names of ``id2label``, in the order of indices.

    Those that nobody gave, LABEL_0 and gaps, are the classes' numbers.
    """
    labels: Any = getattr(described.config, "id2label", None) or {}
    count = int(described.config.num_labels)
    names = [" ".join(str(labels.get(index, index)).split()) for index in range(count)]
    names = [
        str(index) if name in ("", f"LABEL_{index}") else name for index, name in enumerate(names)
    ]
    return [] if names == [str(index) for index in range(count)] else names


def _grid(described: Description, preprocess: Preprocess) -> str:
    """Rows and columns of patches behind several class and register tokens; ``""`` for others."""
    tokens = _CLASS_TOKENS.get(described.model_type, 0)
    tokens += described.number("num_register_tokens") or 0
    patch = described.sizes("patch_size")
    if tokens < 2 or patch is None:
        return ""
    return f"{preprocess.height // patch[0]}x{preprocess.width // patch[1]}"
