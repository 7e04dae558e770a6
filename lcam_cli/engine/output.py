"""Logits in what a network returns, be it a tensor, a tuple, a dict or an object."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lcam_cli.errors import LcamError, did_you_mean

_DEEPEST = 4
_MOST = 12
_WRONG = (KeyError, IndexError, AttributeError, TypeError)


@dataclass(frozen=True)
class Choice:
    """How logits are taken from an output.

    Attributes:
        path: Keys, attributes and indices that lead to them.
        classes: R.
        squeezed: Whether a batch of one has lost its axis, as ``squeeze()`` has it.
        reshaped: Whether they are not (B, R) as they are.
    """

    path: tuple[str | int, ...]
    classes: int
    squeezed: bool
    reshaped: bool

    def pick(self, output: Any) -> Any:
        """The tensor, as it came.

        Raises:
            LcamError: The network returns something else than when it was loaded.
        """
        try:
            for step in self.path:
                output = _step(output, step)
        except _WRONG:
            raise LcamError(
                f"the network returned another kind of output than at first: {described(output)}",
                "return the same kind of output for every image",
            ) from None
        return output

    def shaped(self, logits: Any) -> Any:
        """The tensor as (B, R)."""
        return logits.reshape(-1, self.classes) if self.reshaped else logits


def choose(name: str, alone: Any, pair: Any, wanted: str = "") -> Choice:
    """Find the logits in an output.

    Args:
        name: The network's, for messages.
        alone: What it gives for one image.
        pair: What it gives for two; None where it takes only one at a time.
        wanted: What the user names as ``--output``: a key or an index, or several with dots
            between; ``""`` for ``logits``, or the only tensor that can be some.

    Raises:
        LcamError: There are none, or several; the message lists what there is.
    """
    if wanted:
        path = _named(name, alone, wanted)
        return _read(name, alone, pair, path, f"output {wanted!r} of {name} is")
    if torch.is_tensor(alone):
        return _read(name, alone, pair, (), f"{name} returns")
    if torch.is_tensor(_at(alone, ("logits",))):
        return _read(name, alone, pair, ("logits",), f"{name} returns as logits")
    paths = [path for path, value in _leaves(alone) if torch.is_tensor(value)]
    read = {path: c for path in paths if (c := _reading(alone, pair, path)) is not None}
    # A number an image, such as a loss, is no row of classes where there is one.
    rows = {path: c for path, c in read.items() if _at(alone, path).ndim > 1 or c.classes > 1}
    found = rows or read
    if len(found) != 1:
        why = (
            ": lcam cannot tell which of them are the logits" if found else ", but no logits (B, R)"
        )
        names = [_dotted(path) for path in found]
        raise LcamError(
            f"{name} returns {described(alone)}{why}",
            f"pass one of them: --output {' or --output '.join(names[:3])}"
            if names
            else "return its class scores, a tensor (B, R): lcam explains classifiers, "
            "not detection or segmentation",
        )
    return next(iter(found.values()))


def described(output: Any) -> str:
    """An output in words: ``a tuple of 2: [0] (1, 4), [1] (1, 24)``."""
    if torch.is_tensor(output):
        return str(tuple(output.shape))
    if output is None:
        return "None"
    kind = type(output).__name__
    a = "an" if kind[:1] in "AEIOUaeiou" else "a"
    leaves = list(_leaves(output))
    if not leaves or leaves[0][0] == ():
        return f"{a} {kind}"
    many = f" of {len(output)}" if isinstance(output, Sequence) else ""
    parts = []
    for path, value in leaves[:_MOST]:
        what = tuple(value.shape) if torch.is_tensor(value) else type(value).__name__
        label = _dotted(path)
        parts.append(f"{f'[{label}]' if isinstance(path[0], int) else label} {what}")
    more = f" and {len(leaves) - _MOST} more" if len(leaves) > _MOST else ""
    return f"{a} {kind}{many}: {', '.join(parts)}{more}"


def _named(name: str, output: Any, wanted: str) -> tuple[str | int, ...]:
    """The path that the user names."""
    if torch.is_tensor(output):
        raise LcamError(
            f"{name} returns one tensor {tuple(output.shape)}: there is no output {wanted!r}",
            "remove --output",
        )
    known = {_dotted(path): path for path, value in _leaves(output) if torch.is_tensor(value)}
    if wanted in known:
        return known[wanted]
    near = did_you_mean(wanted, known)
    raise LcamError(
        f"{name} returns no tensor {wanted!r}: {described(output)}",
        near or f"pass --output with one of: {', '.join(known) or 'none'}",
    )


def _read(name: str, alone: Any, pair: Any, path: tuple[str | int, ...], what: str) -> Choice:
    choice = _reading(alone, pair, path)
    if choice is not None:
        return choice
    one, two = _at(alone, path), _at(pair, path)
    shapes = str(tuple(one.shape))
    if torch.is_tensor(two):
        shapes += f" for one image and {tuple(two.shape)} for two"
    if not one.is_floating_point():
        raise LcamError(
            f"{what} {shapes} of {one.dtype}, not logits (B, R)", "return its class scores"
        )
    raise LcamError(
        f"{what} {shapes}, not logits (B, R)",
        "average the positions in a wrapper around it: it has one value per position, not per class"
        if one.ndim > 2
        else f"wrap {name} in a module that returns its class scores, one row per image",
    )


def _reading(alone: Any, pair: Any, path: tuple[str | int, ...]) -> Choice | None:
    """How a tensor is read as logits, by its shape for one image and for two; None: not."""
    one, two = _at(alone, path), _at(pair, path)
    if not (torch.is_tensor(one) and one.is_floating_point()):
        return None
    given = tuple(one.shape)
    both = tuple(two.shape) if torch.is_tensor(two) else None
    if len(given) > 1 and given[0] == 1 and given[1] > 0 and set(given[2:]) <= {1}:
        plain = both is None or both == (2, *given[1:])
        # Twice the same row of what does not depend on the image, or two axes swapped, are none.
        return Choice(path, given[1], False, len(given) > 2) if plain else None
    if both is None or len(given) > 1:
        return None
    if both == (2, *given) and given != (0,):  # squeeze() of a batch of one
        return Choice(path, given[0] if given else 1, True, True)
    if given == (1,) and both == (2,):  # a single logit without an axis of its own
        return Choice(path, 1, False, True)
    return None


def _leaves(
    output: Any, path: tuple[str | int, ...] = (), seen: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """What an output holds, each with the path to it."""
    inside = _inside(output) if len(path) < _DEEPEST and id(output) not in seen else {}
    if not inside:
        yield path, output
    for step, value in inside.items():
        yield from _leaves(value, (*path, step), (*seen, id(output)))


def _inside(output: Any) -> dict[Any, Any]:
    if torch.is_tensor(output) or isinstance(output, str | bytes):
        return {}
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_fields"):  # a namedtuple
        return {name: getattr(output, name) for name in output._fields}
    if isinstance(output, Sequence):
        return dict(enumerate(output))
    if dataclasses.is_dataclass(output):
        return {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    return {k: v for k, v in getattr(output, "__dict__", {}).items() if not k.startswith("_")}


def _at(output: Any, path: tuple[str | int, ...]) -> Any:
    """What a path leads to; None where it leads nowhere."""
    try:
        for step in path:
            output = _step(output, step)
    except _WRONG:
        return None
    return output


def _step(output: Any, step: Any) -> Any:
    if isinstance(output, Mapping) or not isinstance(step, str):
        return output[step]
    return getattr(output, step)


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(step) for step in path)
