"""Packages that are installed for a test alone, as pip would."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

Install = Callable[[str, str, Mapping[str, str]], None]
"""Called with a module, what it says, and its entry points."""


def write_package(
    site: Path, module: str, code: str, group: str, points: Mapping[str, str]
) -> None:
    """Put a package of one module, with its entry points, into a folder of installed ones.

    Args:
        site: The folder.
        module: The module's name, and the package's.
        code: What the module says.
        group: The group of the entry points.
        points: The entry points, ``module:object`` by name.
    """
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))


def installing(group: str) -> Any:
    """Make a fixture that puts packages where this process finds installed ones."""

    @pytest.fixture
    def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
        site = tmp_path / "site-packages"
        site.mkdir()
        monkeypatch.syspath_prepend(str(site))

        def put(module: str, code: str, points: Mapping[str, str]) -> None:
            write_package(site, module, code, group, points)
            modules.add(module)

        modules: set[str] = set()
        yield put
        for module in modules:  # another test may bring one of the same name
            sys.modules.pop(module, None)

    return install
