"""What the benchmarks share: taking turns, running the real command, and printing ratios."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch.fx.experimental.optimization import fuse

from lcam_cli.engine.engine import Engine


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        seconds: From start to exit.
        peak: Largest resident set of it and its children so far in this process, bytes.
        stdout: What it printed.
    """

    seconds: float
    peak: int
    stdout: str


def lcam(*arguments: str | Path) -> Run:
    """Run the command as a user would.

    Raises:
        SystemExit: It failed; with what it said.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "lcam_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"lcam {' '.join(map(str, arguments))}: {done.stderr}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Run(seconds, peak, done.stdout)


_STEADY = """
import time
from lcam_cli.__main__ import _share_cores, main
_share_cores()  # before torch is imported, as the command does
from lcam_cli.runs import outputs
times, append, finish = [], outputs.Outputs.append, outputs.Outputs.finish
def timed(function):
    def call(self, *given):
        done = function(self, *given)
        times.append((time.perf_counter(), len(given[0].paths) if given else 0))
        return done
    return call
outputs.Outputs.append, outputs.Outputs.finish = timed(append), timed(finish)
try:
    main()
finally:
    # The last entry is the end of the file.
    images = sum(count for _, count in times[3:-4])
    print("rate", images / (times[-5][0] - times[2][0]))
"""


def steady_rate(*arguments: str | Path, ranks: int = 1) -> float:
    """Images a second of `lcam explain` from the third batch to the third before the last.

    With more than one rank, torchrun starts them, and their rates are added up.

    The real command runs, in a process of its own, with a clock in it; starting takes seconds that
    vary more than the rate does. Reading is two batches ahead at either end, so that as many
    images are read in between as are explained.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(_STEADY)
        script.flush()
        many = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        done = subprocess.run(
            [sys.executable, *many, script.name, "explain", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"lcam explain {' '.join(map(str, arguments))}: {done.stderr}")
    rates = [float(line[5:]) for line in done.stdout.splitlines() if line.startswith("rate ")]
    if len(rates) != ranks:
        raise SystemExit(f"{len(rates)} of {ranks} ranks told their rate: {done.stdout}")
    return sum(rates)


def pictures_in(photos: Path) -> list[Path]:
    """The photographs of a folder, sorted.

    Raises:
        SystemExit: There are none.
    """
    kinds = (".jpg", ".jpeg", ".png", ".webp")
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in kinds)
    if not found:
        raise SystemExit(f"no images in {photos}")
    return found


def folder_of(photos: Path, count: int, folder: Path) -> Path:
    """Fill ``folder`` with ``count`` images, those of ``photos`` in turn.

    Each is copied once and then hard-linked: what symbolic links name twice is explained once.
    """
    found = pictures_in(photos)
    folder.mkdir(parents=True)
    copies: list[Path] = []
    for k in range(count):
        source = found[k % len(found)]
        target = folder / f"{k:06d}{source.suffix}"
        if k < len(found):
            copies.append(target)
            shutil.copyfile(source, target)
        else:
            target.hardlink_to(copies[k % len(found)])
    return folder


def bare_rate(engine: Engine, batch_size: int, seconds: float = 2.0) -> float:
    """Images a second of the network alone, on a batch that is ready."""
    side = engine.backbone.preprocess.image_size
    batch = torch.rand(batch_size, 3, side, side, device=engine.device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return _rate(engine, lambda: engine.backbone(batch), batch_size, seconds)


def _rate(engine: Engine, run: Callable[[], object], count: int, seconds: float) -> float:
    """How many of ``count`` a run are done a second, after one that is not counted."""
    run()
    start, done = now(engine), 0
    while (spent := now(engine) - start) < seconds:
        run()
        done += count
    return done / spent


class PlainNetwork:
    """The quickest network that one writes with PyTorch alone, of a classifier of torchvision.

    Batch norms folded, activations in place, cast once, channels-last, no gradients.

    Args:
        name: Of torchvision.
        engine: Says which device and which precision.
        compiled: Whether ``torch.compile`` makes it quicker still.
    """

    def __init__(self, name: str, engine: Engine, *, compiled: bool = False) -> None:
        network = torchvision.models.get_model(name, weights=None).eval()
        if any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()):
            network = fuse(network)
        for module in network.modules():
            if isinstance(module, torch.nn.ReLU | torch.nn.ReLU6):
                module.inplace = True
        network = network.requires_grad_(False).to(engine.device, engine.hardware.dtype)
        self._network = network.to(memory_format=torch.channels_last)
        if compiled:
            self._network = torch.compile(self._network)
        self._engine = engine

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, R) of a normalised batch in the engine's precision."""
        logits: torch.Tensor = self._network(x)
        return logits

    def rate(self, batch_size: int, seconds: float = 2.0) -> float:
        """Images a second, on a batch that is ready."""
        side, engine = self._engine.backbone.preprocess.image_size, self._engine
        batch = torch.rand(batch_size, 3, side, side, device=engine.device)
        batch = batch.to(engine.hardware.dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return _rate(engine, lambda: self._network(batch), batch_size, seconds)


def now(engine: Engine) -> float:
    """The time, when all that was asked of the device is done."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def row(name: str, values: Sequence[float], unit: str = "") -> str:
    """A line of a table: the median, and lowest to highest."""
    middle = statistics.median(values)
    return f"{name:<44}{middle:>9.3f} {unit:<9} ({min(values):.3f} to {max(values):.3f})"


def machine() -> str:
    """The machine and the versions, for the head of a table."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    cuda = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{model}, {os.cpu_count()} cores{cuda}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    )
