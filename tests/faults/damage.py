"""Damaged files, made by a seed: the same seed, the same damage."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from lcam_cli.images.pillow import readable_formats

_HEADER = 700
_LIES = (0, 1, 3, 255, 4096, 13_000, 30_000, 65_535, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def flipped(rng: random.Random, blob: bytes) -> bytes:
    """Some bytes changed, as often in the header as in all the rest."""
    damaged = bytearray(blob)
    for _ in range(rng.choice((1, 1, 2, 5, 20, 200))):
        at = rng.randrange(len(blob) if rng.random() < 0.5 else min(_HEADER, len(blob)))
        damaged[at] = rng.choice((rng.randrange(256), damaged[at] ^ 1 << rng.randrange(8), 0, 255))
    return bytes(damaged)


def cut(rng: random.Random, blob: bytes) -> bytes:
    """The end is missing, or a piece in the middle."""
    start = rng.randrange(len(blob))
    return blob[:start] if rng.random() < 0.5 else blob[:start] + blob[start + rng.randrange(999) :]


def spliced(rng: random.Random, blob: bytes, other: bytes) -> bytes:
    """A piece of another file over a piece of this one, or between two."""
    start, at = rng.randrange(len(other)), rng.randrange(len(blob))
    piece = other[start : start + rng.choice((4, 64, 1000, 10**6))]
    return blob[:at] + piece + blob[at + len(piece) * rng.randrange(2) :]


def foreign_header(rng: random.Random, blob: bytes, other: bytes) -> bytes:
    """The header of one file on the body of another."""
    length = rng.choice((4, 8, 16, 32, 64, 128, 512))
    return other[:length] + blob[length:]


def lied(rng: random.Random, blob: bytes, size: tuple[int, int]) -> bytes:
    """Width or height, wherever they stand in the header, are replaced by something else."""
    head, body = blob[:_HEADER], blob[_HEADER:]
    if blob[:2] in (b"P5", b"P6"):
        lies = b"%d %d" % (rng.choice(_LIES), rng.choice((*_LIES, size[1])))
        return re.sub(rb"\d+ \d+", lies, head, count=1) + body
    for value in rng.choice((size, size[:1], size[1:])):
        for layout in (">I", "<I", ">H", "<H", "<H-1"):
            number = value - layout.endswith("-1")
            lie = rng.choice((*_LIES, value * 100, value + 1)) % 2 ** (32 if "I" in layout else 16)
            field = struct.pack(layout[:2], number)
            if field in head:
                head = head.replace(field, struct.pack(layout[:2], lie), 1)
                break
    if blob.startswith(b"\x89PNG"):  # or the lie would be found out by its checksum
        head = head[:29] + struct.pack(">I", zlib.crc32(head[12:29])) + head[33:]
    return head + body


def damaged(rng: random.Random, blobs: Sequence[bytes], size: tuple[int, int]) -> bytes:
    """One of the blobs, damaged in one of these ways."""
    blob, other = rng.choice(blobs), rng.choice(blobs)
    result = rng.choice(
        (
            lambda: flipped(rng, blob),
            lambda: cut(rng, blob),
            lambda: spliced(rng, blob, other),
            lambda: foreign_header(rng, blob, other),
            lambda: lied(rng, blob, size),
            lambda: flipped(rng, lied(rng, blob, size)),
        )
    )()
    return result or b"\0"


SIZE = (150, 100)
_WAYS: dict[str, list[dict[str, object]]] = {
    "JPEG": [{}, {"progressive": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}],
    "PNG": [{}, {"optimize": True}],
    "GIF": [{}],
    "BMP": [{}],
    "TIFF": [{"compression": c} for c in (None, "tiff_lzw", "tiff_deflate", "jpeg")],
    "WEBP": [{}, {"lossless": True}],
    "PPM": [{}],
    "JPEG2000": [{}],
    "AVIF": [{"speed": 10}],
    "TGA": [{}, {"compression": "tga_rle"}],
    "PCX": [{}],
    "SGI": [{}],
}
_MODES = {
    "JPEG": ("L", "CMYK"),
    "PNG": ("P", "RGBA", "I;16"),
    "GIF": ("P",),
    "BMP": ("1", "P"),
    "TIFF": ("CMYK", "F", "I;16"),
    "WEBP": ("RGBA",),
    "PPM": ("L",),
    "TGA": ("RGBA",),
}


def seed_pictures(photo: Path | None = None) -> list[bytes]:
    """One image in all formats that can be read and written, in several ways each.

    Args:
        photo: A real photograph, which is also taken as it is.
    """
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    noise = np.random.default_rng(0).integers(0, 60, (*SIZE[::-1], 3))
    picture = Image.fromarray((np.stack([x, y, x + y], -1) % 190 + noise).astype(np.uint8))
    blobs = []
    if photo is not None:
        blobs.append(photo.read_bytes())
        picture = Image.open(photo).convert("RGB").resize(SIZE)
    for kind in (name for name in _WAYS if name in readable_formats()):
        ways = [(picture, way) for way in _WAYS[kind]]
        ways += [(_in_mode(picture, mode), {}) for mode in _MODES.get(kind, ())]
        if kind in ("GIF", "WEBP", "TIFF", "PNG"):
            more = {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
            ways.append((picture, more))
        for shown, way in ways:
            buffer = BytesIO()
            shown.save(buffer, kind, **way)
            blobs.append(buffer.getvalue())
    return blobs


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    return picture.convert(mode)
