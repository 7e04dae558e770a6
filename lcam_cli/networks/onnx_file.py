"""``net.onnx``: an ONNX classifier, run by onnxruntime, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.networks.network import Network, of_size
from lcam_cli.networks.onnx_graph.external import sha256_with_files
from lcam_cli.networks.onnx_graph.inspection import open_file
from lcam_cli.networks.onnx_graph.metadata import class_names, is_of_ultralytics, picture_size
from lcam_cli.networks.onnx_graph.network import OnnxNetwork
from lcam_cli.networks.onnx_graph.pictures import PictureInput
from lcam_cli.networks.onnx_graph.session import import_onnxruntime
from lcam_cli.networks.weights.checkpoint import sha256_of_file

SUFFIX = ".onnx"
_SIDE = 224
"""Pixels, of models that take any size and do not say which."""


def onnx_network(name: str, weights: str) -> Network:
    """Load an ONNX classifier.

    Args:
        name: A file ``….onnx``.
        weights: ``"DEFAULT"``, or where that file lies now.

    Raises:
        LcamError: onnxruntime is not installed; or the file is missing, damaged, needs operators or
            files that are not its own, or is no classifier of images.
    """
    path = Path(name if weights == "DEFAULT" else weights)
    if path.suffix.lower() != SUFFIX:
        raise LcamError(
            f"{name} includes its own weights, so it cannot use {weights!r}",
            "remove --weights, or pass the model's own file",
        )
    import_onnxruntime()
    file = open_file(path)
    identity = sha256_with_files(sha256_of_file(path), file.files)
    metadata = file.model.metadata
    return Network(
        OnnxNetwork(name, file),
        name,
        identity,
        str(path.resolve()),
        class_names=class_names(metadata),
        preprocess=_preprocess(name, file.pictures, metadata),
        # Others do not say how their images are normalised.
        normalisation_known=file.pictures.is_uint8 or is_of_ultralytics(metadata),
    )


def _preprocess(name: str, pictures: PictureInput, metadata: Mapping[str, str]) -> Preprocess:
    """What images are turned into: of the model's size and channels.

    Whole numbers are taken as pixels of 0 to 255.
    """
    told = picture_size(metadata) or (_SIDE, _SIDE)
    height, width = pictures.height or told[0], pictures.width or told[1]
    try:
        fitted = of_size(Preprocess(), (height, width))
    except LcamError:
        raise LcamError(
            f"{name} expects images of {height}x{width}",
            "use a model whose images have at most 8192 pixels per side",
        ) from None
    channels = pictures.channels or fitted.channels
    if pictures.is_uint8:
        return replace(fitted, mean=(0.0,) * channels, std=(1 / 255,) * channels)
    if is_of_ultralytics(metadata):
        return replace(fitted, mean=(0.0,) * channels, std=(1.0,) * channels)
    return fitted.with_channels(channels)
