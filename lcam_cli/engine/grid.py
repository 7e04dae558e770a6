"""Where the cells of the feature maps lie in the picture.

Bilinear upsampling takes for granted that P cells tile the picture evenly. A convolution of stride
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
from lcam_cli.engine.tokens import find_layout

_ROOM = 0.5
"""So many cells the centres of branches may lie from the middle of the outermost: in the cell."""


@dataclass(frozen=True)
class Grid:
    """The centre of cell p lies at pixel ``start + step·p``, on both axes.

    Attributes:
        start: Pixels; 0 is the centre of the first pixel.
        step: Pixels.
    """

    start: float
    step: float


def find_grids(
    network: nn.Module,
    calls: Sequence[Call],
    picture: Tensor,
    patches: tuple[int, int] | None = None,
) -> list[Grid | None]:
    """Follow the geometry from the picture to some layers, in one forward pass.

    Args:
        network: A classifier.
        calls: Those whose outputs are meant.
        picture: One picture, (1, 3, H, W); where the network runs the same way on all, only its
            size counts.
        patches: P and Q of a transformer's patches, where the user says so.

    Returns:
        Of each the grid; None where an operation on the way is not known, the axes differ, the
        centres of branches that meet lie more than half a cell from the middle between the
        outermost, or the network cannot run while it is followed.
    """
    kept = {call.name: KeptOutput(call.later) for call in calls}
    # A copy, as networks may change their input in place.
    given = picture.clone()
    follow = Follow(given)

    def note(name: str, output: object) -> None:
        layout = find_layout(output, patches)
        places = None
        if layout is not None:
            assert isinstance(output, Tensor)
            # The four take the place of the batch, which is one picture.
            four = follow.memory.read(output).expand(4, *output.shape)[:, 0]
            places = layout.to_maps(four)
        kept[name].add(places)

    try:
        with torch.no_grad(), hook(network, kept, note), follow:
            network(given)
    except Exception:  # a mode shows some code what it does not expect
        return [None] * len(calls)
    outputs = [kept[call.name].output for call in calls]
    return [_grid_of(places) if torch.is_tensor(places) else None for places in outputs]


def _grid_of(places: Tensor) -> Grid | None:
    """The grid that cells (4, K, P, Q) lie on."""
    rows, columns = _line(places, 0), _line(places, 1)
    return rows if rows == columns else None


def _line(places: Tensor, axis: int) -> Grid | None:
    """The grid along one axis."""
    first, last = ends(places, axis)
    others = (0, 2 - axis)
    first, last = first.amin(others), last.amax(others)
    if len(first) < 2 or not are_finite(torch.stack([first, last])):
        return None
    middle = (first + last) / 2
    start, step = middle[0], (middle[-1] - middle[0]) / (len(middle) - 1)
    cells = start + step * torch.arange(len(middle))
    room = _ROOM * step
    if step <= 0 or bool((first < cells - room).any()) or bool((last > cells + room).any()):
        return None
    return Grid(float(start), float(step))
