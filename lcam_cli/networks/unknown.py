"""What to say of a ``--backbone`` that no source takes; often it is a file of another kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lcam_cli.errors import LcamError, did_you_mean

_FOLDER_OF_TRANSFORMERS = (
    "a Hugging Face folder needs the config.json that save_pretrained writes; "
    "else give --backbone file.py:function"
)
_WEIGHTS = (
    "name the architecture, and give the file as its weights: "
    "--backbone NAME (or file.py:function) --weights {name}"
)
_EXPORT_KERAS = (
    'export it: model.export("mine.onnx", format="onnx"), and --backbone mine.onnx '
    "(docs/recipes.md, Keras)"
)
_EXPORT_TENSORFLOW = "convert it to ONNX (tf2onnx does), and give --backbone mine.onnx"
_LOAD_IN_A_FUNCTION = (
    "write a function that loads it and returns the network: --backbone file.py:function "
    "(docs/recipes.md)"
)

# What files with an extension mostly are, and the way on.
_KINDS = {
    ".keras": ("a Keras model", _EXPORT_KERAS),
    **dict.fromkeys((".h5", ".hdf5"), ("an HDF5 file, as Keras writes them", _EXPORT_KERAS)),
    **dict.fromkeys(
        (".pt", ".pth", ".ckpt", ".safetensors", ".bin"), ("a file of weights", _WEIGHTS)
    ),
    **dict.fromkeys((".pkl", ".pickle"), ("a pickle", _LOAD_IN_A_FUNCTION)),
    ".pb": ("a TensorFlow model", _EXPORT_TENSORFLOW),
    ".tflite": ("a TensorFlow Lite model", "export the model to ONNX instead"),
    ".py": ("Python code", "name the function in it: --backbone {name}:function"),
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
            return LcamError(f"{name} is {kind}, not a backbone", hint.format(name=name))
        return LcamError(f"no such file: {name}", "check the path")
    if _exists(path, folder=False):
        return LcamError(
            f"{name} is a file of a kind that is no backbone",
            "a backbone's file is FILE.onnx, FILE.pt2 or file.py:function; weights are --weights",
        )
    near = did_you_mean(name, known) or "e.g. resnet50, vgg16, mobilenet_v2, convnext_tiny."
    others = ", ".join(f"{prefix}NAME" for prefix in prefixes)
    return LcamError(
        f"unknown backbone {name!r}",
        f"{near} Also possible: {others}, a Hugging Face folder, FILE.onnx, FILE.pt2, "
        "file.py:function and package.module:function.",
    )


def _exists(path: Path, *, folder: bool) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
