"""Where the cells of the feature maps lie in the image.

Bilinear upsampling takes for granted that P cells tile the image evenly. A convolution of stride
2 with padding 1, as ResNets and MobileNets have five of, puts the centre of its first cell on the
first pixel instead, half a cell to the upper left, while the 2×2 pools of a VGG keep to the tiling.
So the network is run once, and where its numbers lie is followed (``engine.following``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lcam_cli.engine.calls import Call, KeptOutput, hook
from lcam_cli.engine.following import Follow
from lcam_cli.engine.places import are_finite, ends
from lcam_cli.engine.tokens import Clues, find_layout
from lcam_cli.networks.foreign import ForeignNetwork

_ROOM = 0.5
"""So many cells the centres of branches may lie from the middle of the outermost: in the cell."""


@dataclass(frozen=True)
class Grid:
    """The centre of cell (p, q) lies at row ``start[0] + step[0]·p``, column ``start[1] + …``.

    The axes may differ: a network may see a rectangle resized to a square, or pad its sides by
    what their lengths leave.

    Attributes:
        start: Pixels, rows first; 0 is the centre of the first pixel. One number stands for both.
        step: Pixels, rows first. One number stands for both.
    """

    start: tuple[float, float]
    step: tuple[float, float]

    def __init__(
        self, start: float | tuple[float, float], step: float | tuple[float, float]
    ) -> None:
        for name, value in (("start", start), ("step", step)):
            both = value if isinstance(value, tuple) else (value, value)
            object.__setattr__(self, name, both)

    def seen_from(self, other: Grid) -> Grid:
        """The same cells, in cells of another grid instead of pixels."""
        rows, columns = (
            ((self.start[i] - other.start[i]) / other.step[i], self.step[i] / other.step[i])
            for i in (0, 1)
        )
        return Grid((rows[0], columns[0]), (rows[1], columns[1]))


def find_grids(
    network: nn.Module,
    calls: Sequence[Call],
    picture: Tensor,
    patches: tuple[int, int] | None = None,
) -> list[Grid | None]:
    """Follow the geometry from the image to some layers, in one forward pass.

    Args:
        network: A classifier.
        calls: Those whose outputs are meant.
        picture: One image, (1, C, H, W); where the network runs the same way on all, only its
            size counts.
        patches: P and Q of a transformer's patches, where the user says so.

    Returns:
        Of each the grid; None where an operation on the way is not known, the centres of branches
        that meet lie more than half a cell from the middle between the outermost, or the network
        cannot run while it is followed.
    """
    kept = {call.name: KeptOutput(call.later) for call in calls}
    clues = Clues.of(network, (picture.shape[2], picture.shape[3]))
    # A copy, as networks may change their input in place.
    given = picture.clone()
    follow = Follow(given)
    run = network.follow_places if isinstance(network, ForeignNetwork) else network

    def note(name: str, output: object) -> None:
        layout = find_layout(output, patches, clues)
        places = None
        if layout is not None:
            assert isinstance(output, Tensor)
            # The four take the place of the batch, which is one image.
            four = follow.memory.read(output).expand(4, *output.shape)[:, 0]
            places = layout.to_maps(four)
        kept[name].add(places)

    try:
        with torch.no_grad(), hook(network, kept, note), follow:
            run(given)
    except Exception:  # a mode shows some code what it does not expect
        return [None] * len(calls)
    outputs = [kept[call.name].output for call in calls]
    height, width = picture.shape[2:]
    return [
        _grid_of(places, height, width) if torch.is_tensor(places) else None for places in outputs
    ]


def _grid_of(places: Tensor, height: int, width: int) -> Grid | None:
    """The grid that cells (4, K, P, Q) lie on, of an image of that height and width."""
    rows, columns = _line(places, 0, height), _line(places, 1, width)
    if rows is None or columns is None:
        return None
    return Grid((rows[0], columns[0]), (rows[1], columns[1]))


def _line(places: Tensor, axis: int, length: int) -> tuple[float, float] | None:
    """Start and step along one axis; a single cell's step is the image's length in pixels."""
    first, last = ends(places, axis)
    others = (0, 2 - axis)
    first, last = first.amin(others), last.amax(others)
    if not are_finite(torch.stack([first, last])):
        return None
    middle = (first + last) / 2
    if len(middle) == 1:
        return float(middle), float(length)
    start, step = middle[0], (middle[-1] - middle[0]) / (len(middle) - 1)
    cells = start + step * torch.arange(len(middle))
    room = _ROOM * step
    if step <= 0 or bool((first < cells - room).any()) or bool((last > cells + room).any()):
        return None
    return float(start), float(step)
