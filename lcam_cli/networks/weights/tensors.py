"""Telling tensors that hold what they claim to hold from those that do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import torch


def tensors_of(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the entries of ``content`` that are plain tensors under a text name."""
    return {k: v for k, v in content.items() if isinstance(k, str) and is_plain(v)}


def is_plain(value: object) -> TypeGuard[torch.Tensor]:
    """Whether this is a dense tensor of numbers that are all there.

    Sparse, meta and expanded tensors can claim any size in a file of a few bytes.
    """
    if not isinstance(value, torch.Tensor) or value.is_nested or value.is_quantized:
        return False
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex():
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()
