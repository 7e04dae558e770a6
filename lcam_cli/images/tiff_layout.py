"""Which TIFFs have more than Pillow keeps of them: their depth, or their channels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BITS, _PHOTOMETRIC, _DESCRIPTION, _SAMPLES = 258, 262, 270, 277
_GREY_OR_RGB = (0, 1, 2)
_OF_PILLOW = (1, 3, 4)
_LONGEST = 1 << 16

_OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\s[^<>]*>")
_ATTRIBUTE = re.compile(r"\b(Size[CZT]|DimensionOrder)\s*=\s*[\"']([^\"']{1,20})[\"']")


@dataclass(frozen=True)
class ChannelStack:
    """An image whose channels are pages of their own.

    Attributes:
        channels: How many; more than one.
        step: From a channel's page to the next one's.
    """

    channels: int
    step: int = 1

    @property
    def pages(self) -> range:
        """Which pages are the channels of the first image."""
        return range(0, self.channels * self.step, self.step)


def needs_tifffile(tags: Mapping[int, Any]) -> bool:
    """Whether a TIFF that Pillow has opened has more than it would keep.

    Pillow keeps 8 bits of each colour, and four channels at most. What it reads whole stays its:
    grey of any depth, and all of 8 bits in 1, 3 or 4 channels.

    Args:
        tags: Those of the first page.
    """
    samples = tags.get(_SAMPLES, 1)
    bits = tags.get(_BITS, (1,))
    if tags.get(_PHOTOMETRIC, 1) not in _GREY_OR_RGB:
        return False
    if samples > 1 and (max(bits) > 8 or samples > max(_OF_PILLOW)):
        return True
    stack = channel_stack(str(tags.get(_DESCRIPTION, ""))) if samples == 1 else None
    return stack is not None and (max(bits) > 8 or stack.channels not in _OF_PILLOW)


def channel_stack(description: str) -> ChannelStack | None:
    """Return how a description says that pages are channels; None where it does not.

    ImageJ, OME and tifffile describe their files so. Files and XML that a description refers to are
    nobody's business here.

    Args:
        description: The tag of that name, of the first page.
    """
    text = description[:_LONGEST]
    stack = _of_imagej(text) or _of_ome(text) or _of_tifffile(text)
    return stack if stack is not None and stack.channels > 1 else None


def _of_imagej(text: str) -> ChannelStack | None:
    if not text.startswith("ImageJ="):
        return None
    match = re.search(r"^channels=(\d{1,4})$", text, re.MULTILINE)
    return ChannelStack(int(match[1])) if match else None


def _of_ome(text: str) -> ChannelStack | None:
    pixels = _OME_PIXELS.search(text)
    if pixels is None or "openmicroscopy.org" not in text:
        return None
    said = dict(_ATTRIBUTE.findall(pixels[0]))
    sizes = {name[-1]: int(size) for name, size in said.items() if re.fullmatch(r"\d{1,4}", size)}
    order = said.get("DimensionOrder", "")
    if not re.fullmatch("XY[CZT]{3}", order) or sizes.keys() != set("CZT"):
        return None
    step = 1
    for axis in order[2 : order.index("C")]:
        step *= sizes[axis]
    return ChannelStack(sizes["C"], step)


def _of_tifffile(text: str) -> ChannelStack | None:
    if not text.startswith("{"):
        return None
    try:
        said = json.loads(text)
        if said["axes"] == "CYX" and isinstance(said["shape"][0], int):
            return ChannelStack(said["shape"][0])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        pass
    return None
