"""Whose error it is: the user's, a library's or this package's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lcam_cli.engine.output import choose
from lcam_cli.errors import LcamError
from lcam_cli.networks.users_code import note_users_code, users_error


def _module_at(path: Path, text: str) -> Any:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_innermost_code_that_is_no_librarys_is_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lcam_cli.networks.users_code._roots", {})
    users = _module_at(tmp_path / "users.py", "def call(f):\n    x = 1\n    return f()\n")

    def of(call: Callable[[], object]) -> LcamError | None:
        try:
            call()
        except Exception as error:
            return users_error(error)
        raise AssertionError

    def by_torch() -> None:
        torch.rand(2, 3) @ torch.rand(2, 3)

    def by_lcam() -> None:
        choose("f", None, None)

    assert of(lambda: users.call(by_torch)) is None  # nobody has named it
    note_users_code("users.py:call", tmp_path)
    found = of(lambda: users.call(by_torch))
    assert found is not None
    assert found.what.startswith("users.py:call raised RuntimeError: mat1 and mat2")
    assert found.what.endswith("(users.py, line 3)")
    assert of(lambda: users.call(by_lcam)) is None
    assert of(by_torch) is None
    inside = tmp_path / "env" / "site-packages"
    inside.mkdir(parents=True)
    library = _module_at(inside / "library.py", "def call(f):\n    return f()\n")
    assert of(lambda: library.call(by_torch)) is None
