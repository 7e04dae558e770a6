"""What the PyTorch of this environment exports: run it once in an environment of each version.

    python -m tests.networks.exported.write

It exports a network of each family and adds the functions that they call to ``functions.json``, by
the version that first called them as the versions lie there; it tells which of them the reader does
not know, and which program it does not take. It also writes a small program, ``VERSION.pt2``, so
that each layout of the archives is tested as its PyTorch wrote it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torchvision.models import get_model

from lcam_cli.errors import LcamError
from lcam_cli.networks.program import program_network
from lcam_cli.networks.program_graph import is_known
from tests.networks.test_program import EXPORTED, MODEL, SAMPLES, _residual
from tests.programs import entries, export, write
from tests.tiny import tiny_network
from tests.transformers import tiny_swin, tiny_vit

FOLDER = Path(__file__).parent
FUNCTIONS = FOLDER / "functions.json"
SMALL = {"residual": _residual, "tiny": tiny_network, "vit": tiny_vit, "swin": tiny_swin}
# Families that the tests do not export, for the functions that they call.
OTHERS = ["alexnet", "googlenet", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5"]
OTHERS += ["efficientnet_v2_s", "regnet_y_400mf", "convnext_tiny", "swin_v2_t", "maxvit_t"]
VERSION = torch.__version__.partition("+")[0]


def called(path: Path) -> set[str]:
    """The functions that a program calls."""
    (told,) = (json.loads(one) for name, one in entries(path).items() if name.endswith(MODEL))
    return {node["target"] for node in told["graph_module"]["graph"]["nodes"]}


def without_places(path: Path) -> None:
    """Leave out what a program is not read for: where the files of this environment lie."""
    kept = {}
    for name, content in entries(path).items():
        if name.endswith(MODEL):
            told: dict[str, Any] = json.loads(content)
            told["guards_code"] = []
            for node in told["graph_module"]["graph"]["nodes"]:
                node["metadata"].pop("stack_trace", None)
            kept[name] = json.dumps(told, separators=(",", ":")).encode()
        elif not name.endswith(SAMPLES):
            kept[name] = content
    write(path, kept)


def main() -> None:
    """Export, list and tell."""
    functions: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pt2"
        networks = [(name, build, 32) for name, build in SMALL.items()]
        networks += [(n, lambda n=n: get_model(n, weights=None), 224) for n in EXPORTED + OTHERS]
        for name, build, side in networks:
            torch.manual_seed(0)
            try:
                export(build(), path, side=side)
                functions |= called(path)
                program_network(str(path), "DEFAULT")
            except LcamError as error:
                print(f"{VERSION} {name}: {error.what}")
            except Exception as error:  # PyTorch's own, of any kind
                print(f"{VERSION} {name}: not exported: {type(error).__name__}: {str(error)[:200]}")
    found = json.loads(FUNCTIONS.read_text()) if FUNCTIONS.exists() else {}
    found[VERSION] = sorted(functions)
    ordered = sorted(found.items(), key=lambda entry: [int(n) for n in entry[0].split(".")])
    FUNCTIONS.write_text(json.dumps(dict(ordered), indent=1) + "\n")
    unknown = sorted(name for name in functions if not is_known(name))
    print(
        f"{VERSION}: {len(networks)} networks call {len(functions)} functions; unknown: {unknown}"
    )
    without_places(export(_residual(), FOLDER / f"{VERSION}.pt2"))


if __name__ == "__main__":
    main()
