"""No file of the package needs itself, by whatever way round."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = "lcam_cli"


def test_no_files_import_each_other() -> None:
    """Nor within functions, nor for types alone; ``graphlib`` names a circle where there is one."""
    files = {_name(path): path for path in (ROOT / PACKAGE).rglob("*.py")}
    imports = {name: _imports(path, set(files)) - {name} for name, path in files.items()}
    assert imports["lcam_cli.engine.engine"] > {"lcam_cli.engine.backbone", "lcam_cli.errors"}
    del imports[PACKAGE]  # it names everything, for when it is asked for
    order = list(TopologicalSorter(imports).static_order())
    assert order.index("lcam_cli.errors") < order.index("lcam_cli.engine.engine")


def _name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def _imports(path: Path, modules: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & modules - {PACKAGE}
