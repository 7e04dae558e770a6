"""Where state dicts lie in a file, and under which keys.

A checkpoint keeps them beside the optimiser's and the epoch, nested as its training script liked
it. Every dictionary with tensors in it is a candidate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lcam_cli.errors import LcamError
from lcam_cli.networks.weights.differences import describe_object
from lcam_cli.networks.weights.pickles import OpaqueObject

TOP = "."
"""The key of the state dict that is the whole file."""

_DEPTH = 6  # of state dicts within dictionaries
_LONGEST = 64  # the longest list that is looked through


def split_key(weights: str) -> tuple[Path, str]:
    """Split ``FILE#KEY`` into the file and the key of a state dict in it, ``""`` where none is.

    A file whose own name has a ``#`` in it is found under that name.
    """
    path = Path(weights)
    if "#" not in path.name or path.exists():
        return path, ""
    file, _, key = weights.rpartition("#")
    return Path(file), key


@dataclass(frozen=True)
class Candidate:
    """A state dict in a file.

    Attributes:
        key: Where it lies: ``"model_ema"``, ``"checkpoint.model"``, or ``"."`` for the whole file.
        state: Names to tensors, and whatever else is there.
    """

    key: str
    state: Mapping[Any, Any]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors, by name."""
        tensors = {k: v for k, v in self.state.items() if isinstance(k, str)}
        return {k: tuple(v.shape) for k, v in tensors.items() if isinstance(v, Tensor)}


def find_candidates(
    content: object, key: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[Candidate]:
    """The dictionaries with tensors in them, outer ones first.

    A small pickle may name the same ones over and over: what is within is looked through once.
    """
    entries = content.entries if isinstance(content, OpaqueObject) else content
    seen = set() if seen is None else seen
    known = id(entries) in seen
    seen.add(id(entries))
    if isinstance(entries, list | tuple):
        entries = dict(enumerate(entries)) if len(entries) < _LONGEST else {}
    if not isinstance(entries, Mapping) or depth > _DEPTH:
        return
    if any(isinstance(v, Tensor) and isinstance(k, str) for k, v in entries.items()):
        yield Candidate(key or TOP, entries)
    if known:
        return
    for name, inner in entries.items():
        if isinstance(inner, Mapping | OpaqueObject | list | tuple):
            inside = f"{key}.{name}" if key else str(name)
            yield from find_candidates(inner, inside, depth + 1, seen)


def no_state_dict(path: Path, content: object) -> LcamError:
    """What to say of a file without a state dict: what it holds instead."""
    hint = "save model.state_dict() and pass that file"
    entries = _objects(content)
    for key, value in entries.items():
        if value.is_module:
            where = f"{key!r} in {path}" if key else str(path)
            return LcamError(
                f"{where} is a whole network, pickled (class {value.of}): loading it would run "
                "code",
                "if you trust it, load it and save its state dict: "
                "torch.save(model.state_dict(), 'weights.pt')",
            )
        if value.of.endswith("multiarray._reconstruct"):
            return LcamError(
                f"{path} holds no tensors, only NumPy arrays",
                "convert them with torch.from_numpy(array), and save the tensors with torch.save",
            )
        if value.of.endswith("Tensor"):
            what, way_on = describe_object(key, value.of)
            return LcamError(f"{path} holds no whole tensors: {what}", way_on)
    if isinstance(content, Mapping):
        return LcamError(f"{path} holds no tensors", hint)
    kind = content.of if isinstance(content, OpaqueObject) else type(content).__name__
    return LcamError(f"{path} holds a {kind}, not a state dict", hint)


def _objects(content: object) -> dict[str, OpaqueObject]:
    """The objects at the top level, by key, and those in dictionaries there."""
    if isinstance(content, OpaqueObject):
        return {"": content}
    top = dict(content) if isinstance(content, Mapping) else {}
    inner = {f"{k}.{j}": w for k, v in top.items() if isinstance(v, Mapping) for j, w in v.items()}
    every = {**{str(k): v for k, v in top.items()}, **inner}
    return {k: v for k, v in every.items() if isinstance(v, OpaqueObject)}
