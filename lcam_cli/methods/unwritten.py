"""Tensors that several look at: who is handed one must not write to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from lcam_cli.errors import LcamError


@contextmanager
def unwritten(who: str, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Refuse that code within the block writes to tensors in place.

    It costs no look at their values: a tensor counts how often it was written to.

    Args:
        who: Whose code it is, for the error.
        tensors: What the code is handed, by what it is called.

    Raises:
        LcamError: One of them was written to. What it holds is then anybody's guess.
    """
    before = {name: _version(tensor) for name, tensor in tensors.items()}
    yield
    written = [name for name, tensor in tensors.items() if _version(tensor) != before[name]]
    if written:
        raise LcamError(
            f"{who} writes in place to {', '.join(written)}, which others are handed too",
            "tell its author: write to a copy, as of clone()",
        )


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
