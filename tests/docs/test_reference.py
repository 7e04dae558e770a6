"""The reference tells what the program tells."""

from __future__ import annotations

import importlib.util

from tests.conftest import ROOT


def test_the_reference_is_the_program_s_own() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs/make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.PAGE.read_text(encoding="utf-8")
    assert written == module.page(), "run python docs/make_reference.py"
    assert "`--nu` `PERCENT[,...]` | 100,50,15" in written
    assert "`SHARDS` … | required |" in written
