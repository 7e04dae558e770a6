"""What ``auto`` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcam_cli.cli.setup import training_precision
from lcam_cli.engine import device
from lcam_cli.engine.device import choose_hardware


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu avx512f avx512_vnni avx512_bf16", "bf16"),
        ("fpu avx512f amx_bf16 amx_tile", "bf16"),
        ("fpu avx2 avx512f avx512_vnni", "fp32"),
        ("", "fp32"),
    ],
)
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nmodel name\t: Some\nflags\t\t: {flags}\n")
    monkeypatch.setattr(device, "_CPU_INFO", info)
    assert choose_hardware("cpu").precision == precision
    assert choose_hardware("cpu", "fp32").precision == "fp32"
    assert training_precision("cpu", "auto") == "fp32"
    assert training_precision("cpu", "bf16") == "bf16"


def test_without_a_list_of_flags_auto_is_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "none")
    assert choose_hardware("cpu").precision == "fp32"
