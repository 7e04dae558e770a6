"""The tables of docs/performance.md for a GPU, as Markdown, in a few minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --networks resnet18 --images 8  # a rehearsal

Within a table all that is compared takes turns; given are the median and the lowest and highest of
the rounds. Photographs are generated, of ImageNet's usual size and of what its JPEGs weigh; weights
are random (``benchmarks/precision.py`` tells what half precision changes with real ones). A table
that would begin after ``--minutes`` is left out by name; one that fails says why, and the others
go on.
"""

from __future__ import annotations

import argparse
import gc
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import side_by_side as s
import torch
import torchvision
from PIL import Image

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.masked import MaskedForwards
from lcam_cli.training.recipes import recipe_for
from lcam_cli.training.rows import SharedRows
from lcam_cli.training.step import Trainer

_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_AROUND = 6


class Bench:
    """What the tables share: the device, the photographs, the time that is left."""

    def __init__(self, given: argparse.Namespace, work: Path) -> None:
        self.device = torch.device(given.device)
        self.networks: list[str] = given.networks
        self.seconds: float = given.seconds
        self.images: int = given.images
        self.rounds: int = given.rounds
        self.batch_size: int = given.batch_size or (128 if self.device.type == "cuda" else 4)
        self.work = work
        self.best: dict[tuple[str, str], float] = {}  # bare rates, by network and precision
        self._ends = time.monotonic() + 60 * given.minutes
        self.photos = work / "photos"
        write_photographs(self.photos, 64)

    @property
    def halves(self) -> dict[str, torch.dtype]:
        """The half precisions of the device."""
        return _HALVES if self.device.type == "cuda" else {"bf16": torch.bfloat16}

    @property
    def time_is_left(self) -> bool:
        """Whether another table may begin."""
        return time.monotonic() < self._ends

    def now(self) -> float:
        """The time, when all that was asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def rate(self, work: Callable[[], object], count: int) -> float:
        """How many of ``count`` a call ``work`` does a second."""
        start, done = self.now(), 0
        while True:
            work()
            done += count
            if (spent := self.now() - start) >= self.seconds:
                return done / spent

    def turns(self, works: dict[str, tuple[Callable[[], object], int]]) -> dict[str, list[float]]:
        """Rates of all works, taking turns; each is run once before that."""
        for work, _ in works.values():
            work()
        rounds = [
            {name: self.rate(work, count) for name, (work, count) in works.items()}
            for _ in range(self.rounds)
        ]
        return {name: [one[name] for one in rounds] for name in works}

    def batch(self, side: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A batch that is ready: pixels in [0, 1], channels last."""
        x = torch.rand(self.batch_size, 3, side, side, device=self.device, dtype=dtype)
        return x.contiguous(memory_format=torch.channels_last)

    def engine(self, name: str, precision: str) -> Engine:
        """An engine with random weights."""
        return Engine(
            load_backbone(name, "none"),
            device=str(self.device),
            precision=precision,
            batch_size=self.batch_size,
        )


def write_photographs(folder: Path, count: int) -> None:
    """JPEGs of 500 × 375 with edges and grain, of about 100 kB, as ImageNet's are."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        cells = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = np.asarray(cells.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        grain = rng.normal(0, 6, (375, 500, 1)).astype(np.int16)
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:03}.jpg", quality=92)


def told(values: list[float], digits: int = 2) -> str:
    """The median, and lowest to highest."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def over(above: list[float], below: list[float]) -> list[float]:
    """Ratios, round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def bare_network(name: str, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The network as anybody would run it: cast once, channels last."""
    network = torchvision.models.get_model(name, weights=None).eval().requires_grad_(False)
    return network.to(device=device, dtype=dtype, memory_format=torch.channels_last)


def compiled_network(bare: torch.nn.Module, x: torch.Tensor) -> Callable[..., object] | None:
    """The network compiled, with CUDA graphs; None where nothing can compile it."""
    compiled = torch.compile(bare, mode="reduce-overhead")
    try:
        compiled(x)
    except Exception as error:  # no C++ compiler, say
        print(f"not compiled: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return compiled


def forwards(bench: Bench) -> list[str]:
    """The engine's forward pass against the bare one, as it comes and compiled."""
    lines = [
        "| network | precision | bare, images/s | compiled, with CUDA graphs, images/s "
        "| the engine, images/s | the engine / the best of these |",
        "|---|---|---|---|---|---|",
    ]
    for name in bench.networks:
        for precision, dtype in bench.halves.items():
            engine = bench.engine(name, precision)
            side = engine.backbone.preprocess.image_size
            x, pixels = bench.batch(side, dtype), bench.batch(side)
            bare = bare_network(name, bench.device, dtype)
            works: dict[str, tuple[Callable[[], object], int]] = {
                "bare": (partial(bare, x), len(x)),
                "the engine": (partial(engine.forward, pixels), len(x)),
            }
            with torch.no_grad():
                if (compiled := compiled_network(bare, x)) is not None:
                    works["compiled"] = (partial(compiled, x), len(x))
                found = bench.turns(works)
            best = max(found["bare"], found.get("compiled", [0.0]), key=statistics.median)
            bench.best[name, precision] = statistics.median(best)
            lines.append(
                f"| {name} | {precision} | "
                + " | ".join(
                    told(found[which], 0) if which in found else "–"
                    for which in ("bare", "compiled", "the engine")
                )
                + f" | {told(over(found['the engine'], best))} |"
            )
            torch.compiler.reset()
            _free()
    return lines


def explaining(bench: Bench) -> list[str]:
    """`lcam explain` from the JPEG to HDF5 in the steady state; with overlays for one network."""
    lines = [
        "| network | precision | overlays | images/s | over the best bare forward |",
        "|---|---|---|---|---|",
    ]
    batches = bench.images // bench.batch_size + _AROUND
    folder = s.folder_of(bench.photos, batches * bench.batch_size, bench.work / "many")
    first = next(iter(bench.halves))
    runs = [(name, precision, "") for name in bench.networks for precision in bench.halves]
    runs += [(bench.networks[-1], first, overlays) for overlays in ("png", "jpg")]
    for name, precision, overlays in runs:
        drawn = ("--overlays", bench.work / "overlays", "--overlay-format", overlays)
        rate = s.steady_rate(
            *(folder, "--backbone", name, "--weights", "none", "--method", "gradcam"),
            *("--device", str(bench.device), "--precision", precision),
            *("--batch-size", str(bench.batch_size), "--out", bench.work / "maps.h5"),
            *(drawn if overlays else ()),
            *("--overwrite", "--quiet"),
        )
        best = bench.best.get((name, precision))
        ratio = f"{rate / best:.2f}" if best else "–"
        lines.append(f"| {name} | {precision} | {overlays or 'none'} | {rate:.0f} | {ratio} |")
    return lines


def reading(bench: Bench) -> list[str]:
    """Decoding by the GPU's own decoder, against the CPU's."""
    files = [path.read_bytes() for path in sorted(bench.photos.iterdir())[:32]]
    works: dict[str, tuple[Callable[[], object], int]] = {
        "Pillow, one core": (lambda: [_by_pillow(file) for file in files], len(files))
    }
    if bench.device.type == "cuda":
        given = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
        decode = partial(torchvision.io.decode_jpeg, given, device=bench.device)
        works["nvJPEG"] = (decode, len(files))
    found = bench.turns(works)
    lines = ["| decoder | images/s |", "|---|---|"]
    lines += [f"| {name} | {told(rates, 0)} |" for name, rates in found.items()]
    if "nvJPEG" in found:
        pairs = zip(works["nvJPEG"][0](), files, strict=True)  # type: ignore[arg-type]
        apart = [
            int(np.abs(a.cpu().permute(1, 2, 0).numpy().astype(int) - _by_pillow(b)).max())
            for a, b in pairs
        ]
        lines += ["", f"Largest difference of a pixel between both: {max(apart)} of 255."]
    return lines


def _by_pillow(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def training(bench: Bench) -> list[str]:
    """A training step over the passes that it cannot do without."""
    lines = [
        "| network | precision | L-CAM-Img / its three passes | L-CAM-Fm / one forward pass |",
        "|---|---|---|---|",
    ]
    for name in bench.networks:
        for precision in ("fp32", *bench.halves):
            engine = bench.engine(name, precision)
            x = bench.batch(engine.backbone.preprocess.image_size)
            normalised = engine.normalise(x)
            R, K = engine.backbone.num_classes, engine.backbone.feature_shape[0]
            rows = SharedRows(torch.randn(R, K) / K, torch.ones(K)).to(engine.device)
            recipe = recipe_for("auto", name)
            img, fm = (Trainer(engine, rows, recipe, mode) for mode in ("img", "fm"))

            def passes(x: torch.Tensor, engine: Engine) -> None:
                with torch.no_grad():
                    engine.backbone(x)
                masked = x.detach().clone().requires_grad_()
                engine.backbone(masked).float().sum().backward()

            def forward(x: torch.Tensor, engine: Engine) -> None:
                with torch.no_grad():
                    engine.backbone(x)

            found = bench.turns(
                {
                    "passes": (partial(passes, normalised, engine), 1),
                    "forward": (partial(forward, normalised, engine), 1),
                    "img": (partial(img.step, x, 1.0), 1),
                    "fm": (partial(fm.step, x, 1.0), 1),
                }
            )
            lines.append(
                f"| {name} | {precision} | {told(over(found['passes'], found['img']))} "
                f"| {told(over(found['forward'], found['fm']))} |"
            )
            _free()
    return lines


def masking(bench: Bench) -> list[str]:
    """Masked forward passes over bare ones of the same precision."""
    lines = ["| network | precision | bare, forwards/s | masked / bare |", "|---|---|---|---|"]
    for name in bench.networks:
        for precision in bench.halves:
            engine = bench.engine(name, precision)
            side = engine.backbone.preprocess.image_size
            x = bench.batch(side)[:2]
            masks = torch.rand(2 * bench.batch_size, side, side, device=bench.device)
            classes = torch.zeros(2, dtype=torch.int64, device=bench.device)
            masked = MaskedForwards(engine, x, classes)
            runs = [(0, masks[: bench.batch_size]), (1, masks[bench.batch_size :])]
            ready = engine.normalise(bench.batch(side))
            with torch.no_grad():
                found = bench.turns(
                    {
                        "bare": (partial(engine.backbone, ready), bench.batch_size),
                        "masked": (partial(masked.scores, runs), len(masks)),
                    }
                )
            ratio = told(over(found["masked"], found["bare"]))
            lines.append(f"| {name} | {precision} | {told(found['bare'], 0)} | {ratio} |")
            _free()
    return lines


def memory(bench: Bench) -> list[str]:
    """The most memory that a forward pass takes."""
    lines = [
        f"| network | fp32, MiB | {' | '.join(f'{p}, MiB' for p in _HALVES)} |",
        "|---|---|---|---|",
    ]
    if bench.device.type != "cuda":
        return [*lines, "", "Only a GPU counts it."]
    for name in bench.networks:
        cells = []
        for precision in ("fp32", *_HALVES):
            _free()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            engine = bench.engine(name, precision)
            engine.forward(bench.batch(engine.backbone.preprocess.image_size))
            cells.append((torch.cuda.max_memory_allocated() - before) / 2**20)
            del engine
        lines.append(f"| {name} | " + " | ".join(f"{c:.0f}" for c in cells) + " |")
    return lines


def agreement(bench: Bench) -> list[str]:
    """How often the best class is that of fp32, of photographs' pixels and random weights."""
    lines = [
        "| network | precision | the same top-1 | largest difference of a logit, of σ |",
        "|---|---|---|---|",
    ]
    for name in bench.networks:
        exact = bench.engine(name, "fp32")
        side = exact.backbone.preprocess.image_size
        files = sorted(bench.photos.iterdir())
        given = np.stack([np.asarray(Image.open(f).resize((side, side))) for f in files])
        pieces = np.array_split(given, max(1, len(given) // bench.batch_size))
        expected = torch.cat([exact.logits(exact.pixels(one)) for one in pieces])
        for precision in bench.halves:
            engine = bench.engine(name, precision)
            logits = torch.cat([engine.logits(engine.pixels(one)) for one in pieces])
            same = (logits.argmax(1) == expected.argmax(1)).float().mean()
            apart = ((logits - expected).abs().max() / expected.std()).item()
            lines.append(f"| {name} | {precision} | {same:.1%} of {len(files)} | {apart:.4f} |")
        _free()
    return lines


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


TABLES: dict[str, Callable[[Bench], list[str]]] = {
    "The engine's forward pass": forwards,
    "`lcam explain`": explaining,
    "Training": training,
    "Masked forward passes": masking,
    "Agreement": agreement,
    "Memory": memory,
    "Reading": reading,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", default=["vgg16", "resnet50", "vit_b_16"])
    parser.add_argument("--seconds", type=float, default=0.2, help="a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2048, help="explained in the steady state")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--minutes", type=float, default=6.0, help="no table begins after them")
    given = parser.parse_args()

    print(f"{s.machine()}\n\n{given.rounds} rounds.", flush=True)
    with tempfile.TemporaryDirectory() as name:
        bench, failed = Bench(given, Path(name)), False
        for title, table in TABLES.items():
            lines = ["Left out: the time was over."]
            if bench.time_is_left:
                try:
                    lines = table(bench)
                except Exception as error:  # a lease is short: the other tables are worth having
                    failed = True
                    lines = ["Failed:", "", f"    {type(error).__name__}: {error}"]
            print("\n".join(["", f"## {title}", "", *lines]), flush=True)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
