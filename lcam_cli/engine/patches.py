"""Which of a transformer's tokens are patches, and refusing to guess where that is not known.

The number of tokens alone may mislead: 65 = 1 + 8x8 = 16 + 7x7. What made the patches tells: the
last feature maps before the first list of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.events import Event
from lcam_cli.engine.tokens import Layout, largest_grid
from lcam_cli.errors import LcamError

GRID_HINT = "pass the layer and its rows and columns of patches: --layer NAME --grid PxQ"


def refuse_unknown_tokens(
    some: Sequence[Event], events: Sequence[Event], grid: tuple[int, int] | None
) -> None:
    """Refuse a network with lists of tokens of which it is not known which are patches.

    Args:
        some: The calls that are looked at.
        events: All calls.
        grid: P and Q of patches, where the user says so.

    Raises:
        LcamError: It has such a list, or was made for another ``--grid``.
    """
    for event in some:
        if isinstance(event.module, nn.LayerNorm) and _is_unknown_list(event):
            if grid is not None:
                refuse_other_grid(event, events, grid)
            output = cast(Tensor, event.output)
            batch, count = output.shape[:2]
            if count == 1 and batch > 1:
                raise LcamError(
                    f"{event.name} returns tokens {tuple(output.shape)}, with the batch second",
                    "build the transformer with batch_first=True: lcam reads tokens (B, N, K)",
                )
            raise LcamError(
                f"lcam cannot tell which of the {count} tokens of {event.name} are patches"
                + grid_that_fits(count, events),
                GRID_HINT,
            )
        if event.layout is not None:
            refuse_other_grid(event, events, grid)


def refuse_other_grid(event: Event, events: Sequence[Event], grid: tuple[int, int] | None) -> None:
    """Refuse a ``--grid`` that the network itself contradicts.

    Raises:
        LcamError: The tokens were made of another number of patches.
    """
    output = event.output
    if grid is None or not (torch.is_tensor(output) and output.ndim == 3):
        return
    made, count = _patches_before(events), output.shape[1]
    layout = made.own_layout if made is not None else None
    if made is None or layout is None or grid == (layout.P, layout.Q):
        return
    patches = layout.P * layout.Q
    if patches <= count:
        rest = (
            f": {count - patches} of the {count} tokens are not patches" if count > patches else ""
        )
        raise LcamError(
            f"--grid {grid[0]}x{grid[1]} is {grid[0] * grid[1]} patches, but layer {made.name} "
            f"returns {layout.P}x{layout.Q} = {patches}{rest}",
            f"pass --grid {layout.P}x{layout.Q}",
        )


def refuse_doubtful_square(
    event: Event, events: Sequence[Event], grid: tuple[int, int] | None
) -> None:
    """Refuse tokens that are a square by their number alone, as 65 = 1 + 8x8 = 16 + 7x7 are.

    Raises:
        LcamError: They were made of another number of patches.
    """
    made = _patches_before(events)
    layout = made.own_layout if made is not None else None
    if grid is not None or event.spatial_layout.kind != "list" or layout is None:
        return
    count = cast(Tensor, event.output).shape[1]
    patches, read_as = layout.P * layout.Q, event.spatial_layout
    # Where there are far more tokens, or fewer, other layers have changed their number since.
    if (layout.P, layout.Q) != (read_as.P, read_as.Q) and 0 <= count - patches < patches:
        raise LcamError(
            f"lcam cannot tell which of the {count} tokens of {event.name} are patches"
            + grid_that_fits(count, events),
            GRID_HINT,
        )


def with_other_corners(picture: Tensor, layout: Layout) -> Tensor:
    """An image, (1, C, H, W), that differs in its first, its Q-th and its last patch."""
    height, width = picture.shape[2] // layout.P, picture.shape[3] // layout.Q
    changed = picture.clone()
    for rows, columns in (
        (slice(height), slice(width)),
        (slice(height), slice(-width, None)),
        (slice(-height, None), slice(-width, None)),
    ):
        changed[:, :, rows, columns] = picture[:, :, rows, columns].flip(1) + 1
    return changed


def refuse_other_order(event: Event, events: Sequence[Event], others: Sequence[Event]) -> None:
    """Refuse tokens that are not their class tokens and then the patches row by row.

    Where tokens have not been mixed yet, a patch of the image changes its own token alone: that
    tells which it is. Where they are mixed from the first on, there is no telling.

    Args:
        event: The call that gives the tokens.
        events: All calls.
        others: All calls for the image of :func:`with_other_corners`.

    Raises:
        LcamError: The corners of the image are other tokens than they are read as.
    """
    layout, count = event.spatial_layout, cast(Tensor, event.output).shape[1]
    n = layout.prefix
    expected = [n, n + layout.Q - 1, count - 1]
    changed = [
        _changed_tokens(one, other)
        for a, b in zip(events, others, strict=False)
        for one, other in ((a.given, b.given), (a.output, b.output))
        if torch.is_tensor(one) and one.ndim == 3 and one.shape[:2] == (1, count)
    ]
    corners = [tokens for tokens in changed if len(tokens) == len(set(expected))]
    if corners and sorted(set(expected)) not in corners:
        raise LcamError(
            f"the corners of the image are tokens {', '.join(map(str, corners[0]))} of the "
            f"{count} of {event.name}, not {', '.join(map(str, expected))}",
            "put class tokens first, then the patches row by row",
        )


def _changed_tokens(one: Tensor, other: object) -> list[int]:
    """The tokens in which two lists of them, (1, N, K), differ."""
    if not (torch.is_tensor(other) and other.shape == one.shape):
        return []
    changed = (one.detach() != other).any(2)[0]
    return cast(list[int], changed.nonzero().flatten().tolist())


def grid_that_fits(count: int, events: Sequence[Event]) -> str:
    """How so many tokens could be patches behind others: ``"; 54 = 5 + 7x7 would fit"``."""
    made = _patches_before(events)
    P, Q = largest_grid(count, events[0].clues.size)
    if made is not None:
        layout = cast(Layout, made.own_layout)
        if count >= layout.P * layout.Q:
            P, Q = layout.P, layout.Q
    return f"; {count} = {count - P * Q} + {P}x{Q} would fit"


def _patches_before(events: Sequence[Event]) -> Event | None:
    """The call that made the patches: the last maps before the first list of tokens."""
    made = None
    for event in events:
        output = event.output
        if torch.is_tensor(output) and output.ndim == 3 and output.shape[0] == 1:
            return made
        layout = event.own_layout
        if layout is not None and layout.kind == "maps":
            made = event
    return None


def _is_unknown_list(event: Event) -> bool:
    """Whether this is a list of one image's tokens, batch first or not, of unknown layout."""
    output = event.output
    if not (torch.is_tensor(output) and output.ndim == 3) or max(output.shape[:2]) == 1:
        return False
    return 1 in output.shape[:2] and event.layout is None
