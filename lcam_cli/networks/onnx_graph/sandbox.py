"""A process that runs ONNX files before we do.

onnxruntime is a large C++ library. In a process of its own each file is first run on noise, in just
the parts in which it will be run; a file that ends it is refused.
"""
# Paths stay strings here: they are told to another process, which may stand in another folder.
# ruff: noqa: PTH100

from __future__ import annotations

import os
import signal
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph.layouts import TensorKind
from lcam_cli.networks.onnx_graph.plan import Asked
from lcam_cli.sandbox import EndedError, SandboxProcess

SECONDS = 120.0
"""Of CPU time, after which a file is given up."""

PROCESS = SandboxProcess("lcam_cli.networks.onnx_graph.sandbox_process", "runs ONNX files")


def kinds_of(path: Path, asked: Asked) -> dict[str, TensorKind]:
    """What the tensors of a model are: see :func:`~.inspection.inspect`.

    Args:
        path: The file.
        asked: What the user asks of it.

    Raises:
        LcamError: It cannot be run, or running it crashes onnxruntime or takes too long.
    """
    question = [os.path.abspath(path), asked.layer, asked.output, asked.shape]
    try:
        answer = PROCESS.ask(question, SECONDS)
    except EndedError as ended:
        long = ended.code == -signal.SIGPROF
        how = f"takes more than {SECONDS:.0f} s" if long else "crashes onnxruntime"
        raise LcamError(
            f"{path}: a forward pass with one image {how}",
            "export it again: it is damaged or malicious",
        ) from None
    if "what" in answer:
        raise LcamError(f"{path}: {answer['what']}", answer["hint"])
    return {name: TensorKind(kind, tuple(sizes)) for name, kind, sizes in answer["kinds"]}
