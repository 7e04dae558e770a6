"""A part of a model as onnxruntime runs it, on arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcam_cli.errors import LcamError
from lcam_cli.extras import not_installed
from lcam_cli.networks.onnx_graph.cutting import Given

TYPE_OF_DTYPE = {
    np.dtype(dtype): number
    for number, dtype in {
        **{1: "f4", 2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "?"},
        **{10: "f2", 11: "f8", 12: "u4", 13: "u8"},
    }.items()
}
"""The format's number of a type, by NumPy's."""

DTYPE_OF_TYPE = {number: dtype for dtype, number in TYPE_OF_DTYPE.items()}

_PLACE = re.compile(r"\S+\.(?:cc|h|cpp):\d+ ")
_LONGEST = 300
_MARKS = (" : FAIL : ", " : INVALID_GRAPH : ", " : INVALID_ARGUMENT : ", "Status Message: ")


def import_onnxruntime() -> ModuleType:
    """The package onnxruntime, which is an extra.

    Raises:
        LcamError: It is not installed.
    """
    try:
        import onnxruntime  # noqa: PLC0415 (an extra)
    except ImportError:
        raise not_installed("onnxruntime", "onnx") from None
    module: ModuleType = onnxruntime
    return module


def devices() -> tuple[str, ...]:
    """PyTorch's names of the kinds of devices that this onnxruntime computes on."""
    gpu = "CUDAExecutionProvider" in import_onnxruntime().get_available_providers()
    return ("cpu", "cuda") if gpu else ("cpu",)


def open_session(
    content: bytes, *, threads: int = 1, gpu: int | None = None, quick: bool = False
) -> Any:
    """Have onnxruntime read a model.

    Args:
        content: The model's bytes, which refer to no other file.
        threads: How many threads it uses.
        gpu: The number of the GPU that it computes on; None for the CPU.
        quick: Whether it is to be ready soon rather than to run fast.

    Raises:
        Exception: Whatever onnxruntime raises.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong comes as an exception
    # Threads that spin after a run would take the cores from PyTorch's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if quick:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers: list[Any] = ["CPUExecutionProvider"]
    if gpu is not None:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
    return ort.InferenceSession(content, options, providers=providers)


def why(error: BaseException) -> str:
    """What onnxruntime says, in a line, without its codes and the places in its source."""
    text = " ".join(str(error).split())
    for mark in _MARKS:
        text = text.rpartition(mark)[2]
    text = _without_function(text).removeprefix("[ONNXRuntimeError]").strip(" :")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _without_function(text: str) -> str:
    """What follows ``…/file.cc:123 type function(arguments)``."""
    place = _PLACE.search(text)
    start = text.find("(", place.end()) if place else -1
    if start < 0:
        return text
    depth = 0
    for at in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return text[at + 1 :].strip() or text
    return text


class PartSession:
    """Runs a part of a model on batches of any size.

    Args:
        name: What the user calls the model, for messages.
        content: The part's bytes.
        given: What it is given.
        ends: What it gives.
        threads: How many threads it uses.
        gpu: As for :func:`open_session`.

    Raises:
        LcamError: onnxruntime does not load it.
    """

    def __init__(
        self,
        name: str,
        content: bytes,
        given: Sequence[Given],
        ends: Sequence[str],
        *,
        threads: int = 1,
        gpu: int | None = None,
    ) -> None:
        self._name = name
        self._given = tuple(given)
        self._ends = list(ends)
        try:
            self._session = open_session(content, threads=threads, gpu=gpu)
        except LcamError:
            raise
        except Exception as error:  # onnxruntime has classes of its own, and one for each cause
            raise LcamError(f"{name} does not load: {why(error)}", "export it again") from None

    def run(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run it.

        Args:
            arrays: What it is given, in order, each with the batch first.

        Returns:
            What it gives.

        Raises:
            LcamError: onnxruntime fails, or gives no row an image.
        """
        count, batch = len(arrays[0]), self._given[0].batch
        if batch is None or batch == count:
            return self._call(arrays)
        pieces = []
        for start in range(0, count, batch):  # the last batch is filled up
            rows = np.arange(start, start + batch).clip(max=count - 1)
            outputs = self._call([np.ascontiguousarray(array[rows]) for array in arrays])
            if any(output.ndim == 0 or len(output) != batch for output in outputs):
                shapes = ", ".join(str(output.shape) for output in outputs)
                raise LcamError(
                    f"{self._name} returns {shapes} for a batch of {batch}: not one row per image",
                    "pass a classifier that returns one row of scores per image",
                )
            pieces.append([output[: count - start] for output in outputs])
        return [np.concatenate(column) for column in zip(*pieces, strict=True)]

    def _call(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        names = [one.name for one in self._given]
        try:
            outputs = self._session.run(self._ends, dict(zip(names, arrays, strict=True)))
        except Exception as error:  # as above
            shapes = ", ".join("×".join(map(str, array.shape)) for array in arrays)
            raise LcamError(
                f"{self._name} fails on {shapes}: {why(error)}",
                "pass the image size that it was exported for: --image-size",
            ) from None
        return list(outputs)
