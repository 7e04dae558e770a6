"""Reading images of more than 8 bits, against what the parts allow.

    python benchmarks/deep_pictures.py            # 16-bit grey PNGs, made on the spot
    python benchmarks/deep_pictures.py FOLDER     # images of one's own

The parts, each measured alone: decoding by Pillow, resizing an image of floats that is there, and
handing a view over through a pipe. The whole is what a reading process does when it is asked for
the view: it opens the file and scales the values besides. All are core-seconds of one process, so
that others on the machine matter less; they take turns, and the ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lcam_cli.images.find import find_images
from lcam_cli.images.pixels import Pixels
from lcam_cli.images.preprocess import Preprocess, center_view
from lcam_cli.images.request import Request, View, answer, read_answer
from lcam_cli.images.rgb import Levels

_PREPROCESS = Preprocess(mean=(0.5,), std=(0.5,))
_PIPE_SIZE = 1 << 18


def make_pngs(folder: Path, count: int, side: int) -> None:
    """Write smooth images with noise in the lower bits, as of a scanner."""
    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = Image.fromarray(rng.random((side // 32, side // 32), np.float32))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
        values = smooth * 60000 + rng.normal(0, 60, (side, side)) + 500
        Image.fromarray(values.clip(0, 65535).astype(np.uint16)).save(folder / f"{k:03d}.png")


def decoding(paths: Sequence[str]) -> None:
    """Decode each."""
    for path in paths:
        with Image.open(path) as picture:
            picture.load()


def resizing(planes: Sequence[Image.Image]) -> None:
    """Make the view of each image of floats."""
    for plane in planes:
        center_view(Pixels(plane.size, 1, (plane,)), _PREPROCESS)


def reading(requests: Sequence[Request]) -> None:
    """Do all of it."""
    for request in requests:
        view, levels = request.view_with_levels()
        _hand_over(request, view, levels)


def handing_over(request: Request, view: View, count: int) -> None:
    """Send a view through a pipe, as often as there are images."""
    for _ in range(count):
        _hand_over(request, view, None)


def _hand_over(request: Request, view: View, levels: Levels | None) -> None:
    header, body = answer(view, levels)
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)  # it holds a view, as the worker's
    os.writev(into, (header, body))
    read_answer(request, lambda buffer: _fill(out, buffer))
    os.close(out)
    os.close(into)


def _fill(pipe: int, buffer: memoryview) -> None:
    while buffer:
        buffer = buffer[os.readv(pipe, [buffer]) :]


def seconds(run: Callable[[], None]) -> float:
    """Core-seconds that it takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if not given.folder:
            make_pngs(Path(made), given.pictures, given.side)
        paths = find_images([given.folder or made]).paths[: given.pictures]
        measure(paths, given.rounds)


def measure(paths: Sequence[str], rounds: int) -> None:
    """Measure some images, and print."""
    requests = [Request(path, preprocess=_PREPROCESS) for path in paths]
    planes = []
    for path in paths:
        with Image.open(path) as picture:
            planes.append(picture.convert("F"))
    view = requests[0].view()
    found = []
    for _ in range(rounds + 1):  # the first warms up
        decode = seconds(lambda: decoding(paths))
        whole = seconds(lambda: reading(requests))
        resize = seconds(lambda: resizing(planes))
        hand = seconds(lambda: handing_over(requests[0], view, len(paths)))
        found.append((decode, resize, hand, whole))
    decode, resize, hand, whole = (
        1000 * statistics.median(part) / len(paths) for part in zip(*found[1:], strict=True)
    )
    ratios = [(parts[0] + parts[1] + parts[2]) / parts[3] for parts in found[1:]]
    print(f"decode {decode:.2f} ms, resize {resize:.2f} ms, hand over {hand:.2f} ms an image")
    print(f"all of it {whole:.2f} ms an image, {1000 / whole:.0f} images a second")
    print(f"of what the parts allow: {statistics.median(ratios):.3f} ", end="")
    print(f"(rounds from {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
