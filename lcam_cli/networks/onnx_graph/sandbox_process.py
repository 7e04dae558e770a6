"""The process that runs ONNX files before the program does; ``sandbox.py`` is the other end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph.inspection import inspect, open_file
from lcam_cli.networks.onnx_graph.plan import Asked
from lcam_cli.sandbox_process import limit_memory, serve

_MEMORY = Path("/proc/meminfo")


def main(seconds: float) -> None:
    """Run the files that are asked for; CPU time of ``seconds`` each."""
    serve(_answer, seconds)


def _answer(question: Any) -> dict[str, object]:
    path, layer, output, shape = question
    _limit_memory()
    try:
        kinds = inspect(open_file(Path(path)), Asked(layer, output, tuple(shape)))
    except LcamError as error:
        return {"what": error.what, "hint": error.hint}
    except MemoryError:
        return {"what": "it needs more memory than is available", "hint": "use a smaller model"}
    return {"kinds": [[name, kind.type, kind.sizes] for name, kind in kinds.items()]}


def _limit_memory() -> None:
    """Allow half of what is free, where the system says what is."""
    free = re.search(r"MemAvailable:\s+(\d+)", _MEMORY.read_text()) if _MEMORY.exists() else None
    if free is not None:
        limit_memory(int(free[1]) * 1024 // 2)
