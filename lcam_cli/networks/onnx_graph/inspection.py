"""Reading an ONNX file, and running it once, to see what all of its tensors are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph.checks import read_checked
from lcam_cli.networks.onnx_graph.cutting import Given, Part, needed_for, whole, written
from lcam_cli.networks.onnx_graph.external import external_files, with_content
from lcam_cli.networks.onnx_graph.layouts import TensorKind
from lcam_cli.networks.onnx_graph.model import Model, StoredTensor
from lcam_cli.networks.onnx_graph.pictures import PictureInput, find_picture_input
from lcam_cli.networks.onnx_graph.plan import Asked, make_plan
from lcam_cli.networks.onnx_graph.session import (
    DTYPE_OF_TYPE,
    TYPE_OF_DTYPE,
    PartSession,
    open_session,
    why,
)


@dataclass(frozen=True)
class OnnxFile:
    """A file that was read and checked.

    Attributes:
        path: Where it lies.
        model: What it says.
        pictures: What it takes.
        files: Those beside it that its tensors lie in.
    """

    path: Path
    model: Model
    pictures: PictureInput
    files: tuple[Path, ...]

    def write(self, part: Part, given: tuple[Given, ...]) -> bytes:
        """A part of it as a file of its own."""
        return written(self.model, part, given, self.fill)

    def fill(self, tensor: StoredTensor) -> StoredTensor:
        """A tensor with its numbers, wherever these lie."""
        return with_content(self.path.parent, tensor)


def open_file(path: Path) -> OnnxFile:
    """Read a file and check it, without running anything of it.

    Raises:
        LcamError: What :func:`~.checks.read_checked` or :func:`~.external.external_files` refuse.
    """
    model = read_checked(path)
    try:
        files = external_files(path.parent, model.graph.tensors.values())
        pictures = find_picture_input(model)
    except LcamError as error:
        raise LcamError(f"{path} refused: {error.what}", error.hint) from None
    return OnnxFile(path, model, pictures, tuple(files))


def inspect(file: OnnxFile, asked: Asked) -> dict[str, TensorKind]:
    """Run a model on noise, as a whole and as it will be run: what its tensors are.

    Raises:
        LcamError: onnxruntime fails, or what is asked cannot be had.
    """
    try:
        kinds = _kinds(file, asked)
    except (LcamError, MemoryError):
        raise
    except Exception as error:  # onnxruntime has classes of its own, and one for each cause
        raise LcamError(
            f"onnxruntime does not run it: {why(error)}",
            "export it again, or pass its image size: --image-size",
        ) from None
    plan = make_plan(file.model, file.pictures, kinds, asked)
    arrays = [_noise(file.pictures, asked, file.pictures.batch or 1)]
    for part, given in zip(plan.parts, plan.given, strict=True):
        arrays = PartSession("it", file.write(part, given), given, part.ends).run(arrays)
    return kinds


def _kinds(file: OnnxFile, asked: Asked) -> dict[str, TensorKind]:
    """What all tensors are, for two images where it takes any number."""
    graph, pictures = file.model.graph, file.pictures
    ends = [value.name for value in graph.outputs]
    names = [name for node in needed_for(graph, ends) for name in node.outputs if name]
    part = whole(graph, list(dict.fromkeys((*names, *ends))))
    kind = TensorKind(pictures.value.type, pictures.sizes(1, asked.shape))
    given = (Given(pictures.value.name, kind, pictures.batch),)
    session = open_session(file.write(part, given), quick=True)
    outputs: list[Any] = []
    for batch in (pictures.batch,) if pictures.batch else (2, 1):
        try:
            feed = {pictures.value.name: _noise(pictures, asked, batch)}
            outputs = session.run(list(part.ends), feed)
        except Exception:  # exported for one image, though it does not say so
            if batch != 2 or pictures.batch:
                raise
        else:
            break
    return {
        name: TensorKind(TYPE_OF_DTYPE[output.dtype], output.shape)
        for name, output in zip(part.ends, outputs, strict=True)
        if isinstance(output, np.ndarray) and output.dtype in TYPE_OF_DTYPE
    }


def _noise(pictures: PictureInput, asked: Asked, batch: int) -> NDArray[Any]:
    """Pictures of noise."""
    sizes, rng = pictures.sizes(batch, asked.shape), np.random.default_rng(0)
    if pictures.is_uint8:
        return rng.integers(0, 256, sizes, np.uint8)
    return rng.standard_normal(sizes).astype(DTYPE_OF_TYPE[pictures.value.type])
