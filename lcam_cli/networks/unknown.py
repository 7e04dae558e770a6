"""What to say of a ``--backbone`` that no source takes; often it is a file of another kind."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from lcam_cli.errors import LcamError, did_you_mean

_FOLDER_OF_TRANSFORMERS = (
    "a Hugging Face folder needs the config.json that save_pretrained writes; "
    "otherwise pass --backbone file.py:function"
)
_WEIGHTS = (
    "pass the architecture, and the file as its weights: "
    "--backbone NAME (or file.py:function) --weights {name}"
)
_EXPORT_KERAS = (
    'export it: model.export("mine.onnx", format="onnx"), and pass --backbone mine.onnx '
    "(docs/recipes.md, Keras)"
)
_EXPORT_TENSORFLOW = "convert it to ONNX (for example with tf2onnx), and pass --backbone mine.onnx"
_LOAD_IN_A_FUNCTION = (
    "write a function that loads it and returns the network: --backbone file.py:function "
    "(docs/recipes.md)"
)

_FUNCTION = "pass the function in it that returns the network: --backbone {name}:function"

WEIGHTS_FILES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
"""What files of weights end in."""

# What files with an extension mostly are, and the way on.
_KINDS = {
    ".keras": ("a Keras model", _EXPORT_KERAS),
    **dict.fromkeys((".h5", ".hdf5"), ("an HDF5 file, as Keras writes them", _EXPORT_KERAS)),
    **dict.fromkeys(WEIGHTS_FILES, ("a file of weights", _WEIGHTS)),
    **dict.fromkeys((".pkl", ".pickle"), ("a pickle", _LOAD_IN_A_FUNCTION)),
    ".pb": ("a TensorFlow model", _EXPORT_TENSORFLOW),
    ".tflite": ("a TensorFlow Lite model", "export the model to ONNX instead"),
    ".py": ("Python code", _FUNCTION),
}


def unknown_backbone(name: str, known: Iterable[str], prefixes: Iterable[str]) -> LcamError:
    """The error for a name that no source takes.

    Args:
        name: What was given as ``--backbone``.
        known: Names that may have been meant.
        prefixes: Of the sources that take ``PREFIX/NAME``.
    """
    path = Path(name)
    extension = path.suffix.lower()
    if _exists(path, folder=True):
        if _exists(path / "saved_model.pb", folder=False):
            return LcamError(
                f"{name} is a TensorFlow SavedModel, not a backbone", _EXPORT_TENSORFLOW
            )
        what = f"{name} is a folder without config.json, not a backbone"
        return LcamError(what, _FOLDER_OF_TRANSFORMERS)
    if extension in _KINDS:
        kind, hint = _KINDS[extension]
        if _exists(path, folder=False):
            own = _OWN_HINTS.get(hint, lambda _: "")(path)
            return LcamError(f"{name} is {kind}, not a backbone", own or hint.format(name=name))
        return LcamError(f"no such file: {name}", "check the path")
    if _exists(path, folder=False):
        return LcamError(
            f"{name} is not a file that can be a backbone",
            "pass FILE.onnx, FILE.pt2 or file.py:function as the backbone, and weights with "
            "--weights",
        )
    near = did_you_mean(name, known) or "e.g. resnet50, vgg16, mobilenet_v2, convnext_tiny."
    others = ", ".join(f"{prefix}NAME" for prefix in prefixes)
    return LcamError(
        f"unknown backbone {name!r}",
        f"{near} You can also pass {others}, a Hugging Face folder, FILE.onnx, FILE.pt2, "
        "file.py:function and package.module:function.",
    )


def _its_architecture(path: Path) -> str:
    """What to type for a file of weights of one of torchvision's classifiers; empty for others."""
    # This asks for torchvision's networks, which other names need not wait for.
    from lcam_cli.networks.weights.checkpoint import read_content  # noqa: PLC0415
    from lcam_cli.networks.weights.differences import (  # noqa: PLC0415
        common_prefix,
        torchvision_architecture,
    )
    from lcam_cli.networks.weights.state_dicts import find_candidates  # noqa: PLC0415

    try:
        for candidate in find_candidates(read_content(path)):
            names = [name for name in candidate.state if isinstance(name, str)]
            start = len(common_prefix(names))  # of a wrapper, as "module."
            state = {name[start:]: candidate.state[name] for name in names}
            if architecture := torchvision_architecture(state):
                return f"it fits {architecture}: --backbone {architecture} --weights {path}"
    except LcamError:
        pass  # what is the matter with it is told once it is given as weights
    return ""


def _its_functions(path: Path) -> str:
    """What to type for a function of a file of Python code, which is read and not run."""
    try:
        parts = ast.parse(path.read_text("utf-8")).body
    except (OSError, ValueError, SyntaxError):  # also no UTF-8, and a NUL within
        return ""
    functions = [one.name for one in parts if isinstance(one, ast.FunctionDef)]
    classes = [one.name for one in parts if isinstance(one, ast.ClassDef)]
    if functions:
        others = f" (or {', '.join(functions[1:5])})" if functions[1:] else ""
        first = f"--backbone {path}:{functions[0]}"
        return f"pass the function that returns the network: {first}{others}"
    if classes:
        return (
            f"add a function that returns the network, e.g. `def build(): return {classes[0]}()`, "
            f"and give --backbone {path}:build"
        )
    return ""


_OWN_HINTS = {_WEIGHTS: _its_architecture, _FUNCTION: _its_functions}


def _exists(path: Path, *, folder: bool) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
