"""Which precision each kind of hardware computes in: what ``auto`` takes, and what is quick.

docs/precision.md has the measurements behind it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Use = Literal["maps", "training"]

_CPUINFO = Path("/proc/cpuinfo")
# x86 calls its matrix unit's and its vectors' bf16 so; ARM has one word for both.
_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}


@dataclass(frozen=True)
class Processor:
    """What of a device decides about precision.

    Attributes:
        kind: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        capability: CUDA's compute capability.
        bf16: Whether a CPU has instructions for bf16.
    """

    kind: str
    capability: tuple[int, int] = (0, 0)
    bf16: bool = False

    @classmethod
    def of(cls, device: torch.device) -> Processor:
        """What a device that is here is."""
        if device.type == "cuda":
            return cls("cuda", torch.cuda.get_device_capability(device))
        return cls(device.type, bf16=device.type == "cpu" and cpu_computes_bf16())


def choices(processor: Processor, use: Use = "maps") -> tuple[str, ...]:
    """What ``auto`` takes, the best first: the next where a network's numbers do not fit in one.

    Tensor cores take fp16 and bf16 at one rate, and fp16 rounds eight times less, but ends at
    65,504. Training goes backward through the network, where bf16's range matters more. CPUs and
    MPS compute in fp32: what half precision costs there is for the user to accept.
    """
    if processor.kind == "cuda" and processor.capability >= (7, 0):
        has_bf16 = processor.capability >= (8, 0)
        if use == "training":
            return ("bf16", "fp32") if has_bf16 else ("fp32",)
        return ("fp16", "bf16", "fp32") if has_bf16 else ("fp16", "fp32")
    return ("fp32",)


def cpu_computes_bf16() -> bool:
    """Whether this CPU has instructions for bf16; without them PyTorch emulates it, slowly."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and _has_bf16_instructions()


@cache
def _has_bf16_instructions() -> bool:
    flags = _flags(_CPUINFO)
    if flags:
        return bool(flags & _BF16_FLAGS)
    # Where the system does not list them: private functions, which not every PyTorch has. They
    # look at x86 alone.
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    asked: list[Callable[[], bool] | None] = [
        getattr(torch.cpu, name, None)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(ask() for ask in asked if ask is not None)


def _flags(cpuinfo: Path) -> set[str]:
    """The instruction sets of the first core that Linux lists; nothing elsewhere."""
    try:
        text = cpuinfo.read_text("ascii", errors="replace")
    except OSError:
        return set()
    # x86 writes "flags", ARM "Features".
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return set(found.group(1).split()) if found else set()
