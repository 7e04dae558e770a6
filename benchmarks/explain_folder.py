"""`lcam explain` from JPEG to HDF5, over the bare forward pass and over what the parts allow.

    python benchmarks/explain_folder.py mobilenet_v2 ../shared/real/photos --precision bf16

A round measures the bare forward pass at several batch sizes, of the engine's network and of the
quickest that one writes with PyTorch alone, cast once; the best counts. Then it measures the real
command from its third batch to the third before the last. The parts (decoding and resizing,
forward, writing) are measured on one core each, so that their sum says what the machine's cores
allow. Weights are random: no rate depends on them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import side_by_side as s

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.picture import ReadOptions
from lcam_cli.images.preprocess import center_view
from lcam_cli.images.read import MAX_PIXELS, read_pixels
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.record import MapBatch, MapsInfo

_AROUND = 192  # images of the batches before the clock starts and after it stops


def reading_seconds(photos: Path, engine: Engine) -> float:
    """Core-seconds to read, decode, turn, resize and crop an image."""
    found = s.pictures_in(photos)[:50]
    start = time.process_time()
    for path in found:
        pixels, _ = read_pixels(str(path), ReadOptions(MAX_PIXELS))
        center_view(pixels, engine.backbone.preprocess)
    return (time.process_time() - start) / len(found)


def writing_seconds(folder: Path, engine: Engine, rows: int = 256) -> float:
    """Core-seconds to write a row."""
    side, (_, P, Q) = engine.backbone.preprocess.image_size, engine.backbone.feature_shape
    batch = MapBatch(
        saliency=np.random.default_rng(0).random((32, side, side), np.float32),
        cam=np.zeros((32, P, Q), np.float32),
        paths=[f"{k:06d}.jpg" for k in range(32)],
        class_index=np.zeros(32, np.int32),
        predicted_index=np.zeros(32, np.int32),
        class_names=["tench"] * 32,
        confidence=np.zeros(32, np.float32),
        crop_box=np.zeros((32, 4), np.float32),
        skipped=[],
    )
    info = MapsInfo("lcam-img", "none", "none", "layer", ".")
    start = time.process_time()
    with Hdf5Writer(
        folder / "written.h5",
        info,
        size=(side, side),
        capacity=Capacity.of(["000000.jpg"] * rows, ["tench"]),
    ) as writer:
        for _ in range(rows // 32):
            writer.append(batch)
        writer.finish()
    return (time.process_time() - start) / rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each bare batch size")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile, once")
    given = parser.parse_args()

    engine = Engine(load_backbone(given.backbone, "none"), precision=given.precision)
    plain = s.PlainNetwork(given.backbone, engine)
    cores = os.cpu_count() or 1
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = s.folder_of(given.photos, given.images + _AROUND, work / "photos")
        network = ("--backbone", given.backbone, "--weights", "none")
        s.lcam(
            *("train", folder, *network, "--recipe", "paper", "--epochs", "1"),
            *("--batch-size", "8", "--max-images", "8", "--out", work / "run", "--quiet"),
        )
        for _ in range(given.rounds):
            own = max(s.bare_rate(engine, n, given.seconds) for n in given.batch_sizes)
            bare = max(own, *(plain.rate(n, given.seconds) for n in given.batch_sizes))
            explain = s.steady_rate(
                *(folder, "--attention", work / "run", "--precision", given.precision),
                *("--out", work / "maps.h5", "--overwrite", "--quiet"),
            )
            parts = {
                "reading": reading_seconds(given.photos, engine),
                "writing": writing_seconds(work, engine),
            }
            (work / "written.h5").unlink()
            rounds.append({"bare": bare, "own": own, "explain": explain, **parts})
    print(s.machine())
    print(
        f"{given.backbone}, {engine.hardware.name}, {engine.hardware.precision}, {given.images} "
        f"pictures of {given.photos.name}, {given.rounds} rounds: median (lowest to highest)"
    )
    print(s.row("bare forward", [r["bare"] for r in rounds], "images/s"))
    print(s.row("the engine's own network", [r["own"] for r in rounds], "images/s"))
    if given.compile:
        compiled = s.PlainNetwork(given.backbone, engine, compiled=True)
        print(s.row("torch.compile, batch 32, once", [compiled.rate(32)], "images/s"))
    print(s.row("lcam explain", [r["explain"] for r in rounds], "images/s"))
    print(s.row("lcam explain / bare", [r["explain"] / r["bare"] for r in rounds]))
    print(s.row("reading and resizing", [1000 * r["reading"] for r in rounds], "core-ms"))
    print(s.row("writing", [1000 * r["writing"] for r in rounds], "core-ms"))
    if engine.device.type == "cpu":
        allowed = [cores / (cores / r["bare"] + r["reading"] + r["writing"]) for r in rounds]
        print(s.row("what the parts allow", allowed, "images/s"))
        print(
            s.row(
                "lcam explain / what the parts allow",
                [r["explain"] / a for r, a in zip(rounds, allowed, strict=True)],
            )
        )


if __name__ == "__main__":
    main()
