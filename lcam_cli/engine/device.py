"""What to run on, in what precision, and how the machine is prepared for it."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

import torch

from lcam_cli.engine.precision import Processor, Use, choices
from lcam_cli.errors import LcamError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@dataclass(frozen=True)
class Hardware:
    """The device and precision a run uses.

    Attributes:
        device: Where the network runs.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        fallbacks: What ``auto`` takes, in this order, where the network is not right in that.
    """

    device: torch.device
    precision: str
    fallbacks: tuple[str, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """The precision as a PyTorch type."""
        return PRECISIONS[self.precision]

    @property
    def name(self) -> str:
        """The device as a person would name it, e.g. ``cpu (2 threads)``."""
        name = str(self.device)
        if self.device.type == "cuda":
            name = f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        elif self.device.type == "cpu":
            threads = torch.get_num_threads()
            name = f"cpu ({threads} thread{'s' if threads > 1 else ''})"
        return name


def choose_hardware(device: str = "auto", precision: str = "auto", use: Use = "maps") -> Hardware:
    """Pick the device and precision.

    ``auto`` takes the first of CUDA, Apple's MPS and the CPU that is there, and the precision that
    suits it: see :func:`~.precision.choices`.

    Raises:
        LcamError: The device does not exist here, or cannot compute in that precision.
    """
    chosen = _device(device)
    if precision == "auto":
        first, *others = choices(Processor.of(chosen), use)
        return Hardware(chosen, first, tuple(others))
    if precision not in PRECISIONS:
        raise LcamError(f"unknown precision {precision!r}", "use auto, fp32, bf16 or fp16")
    if precision == "fp16" and chosen.type == "cpu":
        raise LcamError("fp16 does not run on the CPU", "use --precision bf16 or fp32")
    return Hardware(chosen, precision)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LcamError(f"unknown device {name!r}", "use auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise LcamError(
                f"no device {name}: this machine has {count} CUDA devices", "use --device cpu"
            )
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise LcamError("no device mps on this machine", "use --device cpu")
    elif device.type not in ("cpu", "mps"):
        raise LcamError(f"unsupported device {name!r}", "use auto, cpu, cuda, cuda:N or mps")
    return device


def prepare_cpu() -> None:
    """Keep glibc from handing large activations back to the system after every layer.

    By default each feature map is mapped afresh and its pages faulted in again; keeping them
    makes a forward pass two to three times as fast. Values the user set in
    the environment are left alone, and other C libraries are too.
    """
    if not sys.platform.startswith("linux") or any(k.startswith("MALLOC_") for k in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 256 * 2**20)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in str(error) or "out of memory" in str(error)
    )
