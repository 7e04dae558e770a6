"""Telling whether tensors are the same: in value but for rounding, or in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def close(logits: Tensor, expected: Tensor) -> bool:
    """Whether logits are the same but for rounding, measured against the largest of them.

    Those of random weights may be of any size. Where none is finite there is nothing to compare.
    """
    if logits.shape != expected.shape:
        return False
    finite = expected.isfinite()
    if not torch.equal(finite, logits.isfinite()):
        return False
    if not finite.any():
        return True
    expected, logits = expected[finite], logits[finite]
    return bool((logits - expected).abs().max() <= 1e-3 * expected.abs().max() + 1e-7)


def share_memory(one: object, other: object) -> bool:
    """Whether two values are tensors of which a change of one changes the other."""
    if not (torch.is_tensor(one) and torch.is_tensor(other)):
        return False
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
