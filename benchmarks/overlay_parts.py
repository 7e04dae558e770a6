"""Where the time of an overlay goes: each step alone, core-milliseconds a photograph.

    python benchmarks/overlay_parts.py ../shared/real/photos

One thread, warm files and caches: the fastest of some repetitions of each step on a photograph,
averaged over the photographs. In a run the steps meet cold memory, and cost up to half as much
more.
The steps of other ways to draw and to encode are below, with the size of what they give.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import side_by_side as s
from PIL import Image

from lcam_cli.images.picture import ReadOptions
from lcam_cli.images.preprocess import Preprocess, center_view
from lcam_cli.images.read import MAX_PIXELS, read_pixels
from lcam_cli.images.request import shown_whole
from lcam_cli.maps import overlay as o
from lcam_cli.maps import png_encoder
from lcam_cli.maps.atomic import write_atomically
from lcam_cli.maps.caption import caption_strip
from lcam_cli.maps.overlay_work import Overlay, OverlayLook, draw_overlay, encoded

T = TypeVar("T")
Drawn = tuple[Image.Image, list[Image.Image]]
"""An image with its map, and the strips that stand below it."""

_CELLS = 7
_CAPTION = ["American lobster, Northern lobster 97.3%"]


class Clock:
    """Times steps, and collects the bytes they give.

    Args:
        repetitions: Of each step on a photograph.
    """

    def __init__(self, repetitions: int) -> None:
        self._repetitions = repetitions
        self.milliseconds: dict[str, list[float]] = {}
        self.kilobytes: dict[str, list[float]] = {}

    def __call__(self, name: str, step: Callable[[], T]) -> T:
        """Time a step; return what it gives."""
        spent = []
        for _ in range(self._repetitions):
            begun = time.perf_counter()
            result = step()
            spent.append(time.perf_counter() - begun)
        self.milliseconds.setdefault(name, []).append(1e3 * min(spent))
        if isinstance(result, bytes):
            self.kilobytes.setdefault(name, []).append(len(result) / 1e3)
        return result

    def print(self) -> None:
        """Print a line a step."""
        for name, values in self.milliseconds.items():
            size = f"{np.mean(self.kilobytes[name]):8.0f} kB" if name in self.kilobytes else ""
            print(f"{name:<52}{np.mean(values):8.3f} ms{size}")


def reading(clock: Clock, path: Path) -> Image.Image:
    """Time what reading takes, once for network and overlay; return the image."""
    pixels, _ = clock("read and decode", lambda: read_pixels(str(path), ReadOptions(MAX_PIXELS)))
    clock("make the network's view", lambda: center_view(pixels, Preprocess()))
    clock("hand over the whole image as bytes (0.1.0)", pixels.as_rgb)
    return shown_whole(pixels).copy()


def drawing(clock: Clock, picture: Image.Image, one: Overlay, look: OverlayLook) -> Drawn:
    """Time what drawing takes, step by step; return the overlay."""
    box = o.pixels_in(one.crop_box, picture.size)
    assert box is not None
    clock("hand over the map", lambda: pickle.loads(pickle.dumps(one)))
    grey = clock("stretch the map", lambda: o.stretched(one.levels, one.crop_box, box))
    weights = [round(look.colours.alpha * level) for level in range(256)]
    weight = clock("weights", lambda: grey.point(weights))
    palette = grey.copy()
    palette.putpalette(look.colours.table.tobytes())
    colours = clock("colours", lambda: palette.convert("RGB"))
    clock("lay them over", lambda: picture.copy().paste(colours, box[:2], weight))
    clock(
        "the same by copies (0.1.0)",
        lambda: picture.copy().paste(Image.composite(colours, picture.crop(box), weight), box[:2]),
    )

    def dim() -> None:
        for strip in o._around(box, picture.size):
            picture.paste(picture.crop(strip).convert("RGB", o._DIM), strip[:2])

    kept = picture.copy()
    clock("dim what was not seen", dim)
    picture.paste(kept)
    clock("caption", lambda: caption_strip(picture.size, one.caption))

    def whole() -> Drawn:
        drawn = kept.copy()
        return drawn, draw_overlay(drawn, one, look)

    return clock("all of drawing", whole)


def encoding(clock: Clock, overlay: Drawn) -> bytes:
    """Time what encoding takes; return a PNG."""
    drawn, strips = overlay
    array = np.asarray(drawn)
    filtered = clock("PNG: filter", lambda: png_encoder._filtered(array))
    clock("PNG: deflate and its checksum", lambda: png_encoder.deflate.compress(filtered, 1))
    png = clock("all of PNG", lambda: b"".join(encoded(drawn, strips, "png")))
    clock("all of JPEG", lambda: b"".join(map(bytes, encoded(drawn, strips, "jpg"))))
    return png


def writing(clock: Clock, png: bytes, folder: Path) -> None:
    """Time what a file takes."""
    target = folder / "overlay.png"
    clock("write", lambda: write_atomically(target, png, synced=False))
    clock("write, synced at once (0.1.0)", lambda: write_atomically(target, png))


def other_ways(clock: Clock, path: Path, picture: Image.Image, drawn: Image.Image) -> None:
    """Time what was tried instead."""

    def in_luma() -> None:
        with Image.open(path) as opened:
            opened.draft("YCbCr", None)  # type: ignore[arg-type]
            opened.load()

    clock("JPEG decoded without conversion to RGB", in_luma)
    luma = drawn.convert("YCbCr")
    clock("JPEG of YCbCr", lambda: _jpeg(luma))
    clock("JPEG of RGB", lambda: _jpeg(drawn))
    rows = np.asarray(drawn).reshape(drawn.height, -1)
    plain = np.zeros((rows.shape[0], rows.shape[1] + 1), np.uint8)
    plain[:, 1:] = rows
    deflate = png_encoder.deflate.compress
    clock("deflate of rows without a filter", lambda: bytes(deflate(plain, 1)))
    plain[:, 0] = 1
    np.subtract(rows[:, 3:], rows[:, :-3], out=plain[:, 4:])
    clock("deflate of rows with filter Sub", lambda: bytes(deflate(plain, 1)))
    up = png_encoder._filtered(np.asarray(drawn))
    clock("deflate of rows with filter Up", lambda: bytes(deflate(up, 1)))
    clock("deflate of rows with filter Up, level 0", lambda: bytes(deflate(up, 0)))
    del picture


def _jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()

    clock, other = Clock(given.repetitions), Clock(given.repetitions)
    rng = np.random.default_rng(0)
    look = OverlayLook(o.Colours.of(o.DEFAULT_COLORMAP), "png")
    with tempfile.TemporaryDirectory() as name:
        for path in s.pictures_in(given.photos)[: given.images]:
            picture = reading(clock, path)
            cells = Image.fromarray(rng.integers(0, 256, (_CELLS, _CELLS), np.uint8))
            levels = np.asarray(cells.resize((224, 224), Image.Resampling.BILINEAR))
            _, box = center_view(picture, Preprocess())
            one = Overlay(levels, box, _CAPTION, os.devnull)
            drawn = drawing(clock, picture, one, look)
            writing(clock, encoding(clock, drawn), Path(name))
            other_ways(other, path, picture, drawn[0])
    print(s.machine())
    clock.print()
    print("\nother ways")
    other.print()


if __name__ == "__main__":
    main()
