"""Which precision each kind of hardware computes in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lcam_cli.engine import precision
from lcam_cli.engine.device import choose_hardware
from lcam_cli.engine.precision import Processor, choices, cpu_computes_bf16

FP32 = ("fp32",)
HALF = ("fp16", "bf16", "fp32")


@pytest.mark.parametrize(
    ("capability", "maps", "training"),
    [
        ((9, 0), HALF, ("bf16", "fp32")),  # H100
        ((8, 9), HALF, ("bf16", "fp32")),  # RTX 40
        ((8, 0), HALF, ("bf16", "fp32")),  # A100
        ((7, 5), ("fp16", "fp32"), FP32),  # T4: tensor cores for fp16 alone
        ((7, 0), ("fp16", "fp32"), FP32),  # V100
        ((6, 1), FP32, FP32),  # GTX 10: none
        ((5, 2), FP32, FP32),
    ],
)
def test_cuda_takes_what_its_tensor_cores_do(
    capability: tuple[int, int], maps: tuple[str, ...], training: tuple[str, ...]
) -> None:
    assert choices(Processor("cuda", capability)) == maps
    assert choices(Processor("cuda", capability), "training") == training


@pytest.mark.parametrize("use", ["maps", "training"])
@pytest.mark.parametrize("kind", ["cpu", "mps"])
@pytest.mark.parametrize("bf16", [True, False])
def test_other_devices_compute_in_fp32_unless_asked(
    kind: str, bf16: bool, use: precision.Use
) -> None:
    assert choices(Processor(kind, bf16=bf16), use) == FP32


def test_auto_keeps_what_it_may_fall_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processor, "of", lambda _device: Processor("cuda", (8, 0)))
    auto = choose_hardware("cpu")
    assert (auto.precision, auto.fallbacks) == ("fp16", ("bf16", "fp32"))
    asked = choose_hardware("cpu", "bf16")
    assert (asked.precision, asked.fallbacks) == ("bf16", ()), "what is asked for has none"
    assert choose_hardware("cpu", "auto", "training").precision == "bf16"


@pytest.mark.parametrize(
    ("cpuinfo", "has_bf16"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("Features\t: fp asimd i8mm bf16\n", True),  # ARM
        ("flags : fpu avx512f avx512_vnni\nbugs : bf16\n", False),
        ("Features : fp asimd svebf16x\n", False),
    ],
)
def test_instructions_are_read_from_what_linux_lists(
    cpuinfo: str, has_bf16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    monkeypatch.setattr(precision, "_CPUINFO", file)
    precision._has_bf16_instructions.cache_clear()
    try:
        assert precision._has_bf16_instructions() == has_bf16
    finally:
        precision._has_bf16_instructions.cache_clear()


@pytest.mark.parametrize(
    ("machine", "answers", "has_bf16"),
    [
        ("AMD64", {"_is_avx512_bf16_supported": True}, True),
        ("x86_64", {"_is_amx_tile_supported": True}, True),
        ("x86_64", {}, False),
        ("arm64", {"_is_avx512_bf16_supported": True}, False),
    ],
)
def test_where_no_list_is_pytorch_is_asked(
    machine: str,
    answers: dict[str, bool],
    has_bf16: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "none")
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if name in answers:
            monkeypatch.setattr(torch.cpu, name, lambda: True, raising=False)
        else:
            monkeypatch.delattr(torch.cpu, name, raising=False)
    precision._has_bf16_instructions.cache_clear()
    try:
        assert precision._has_bf16_instructions() == has_bf16
    finally:
        precision._has_bf16_instructions.cache_clear()


def test_a_pytorch_without_onednn_computes_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_has_bf16_instructions", lambda: True)
    assert cpu_computes_bf16() == torch.backends.mkldnn.is_available()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not cpu_computes_bf16()
