"""Gradients where a network's own code switches them off.

``with torch.no_grad():`` within ``forward`` saves memory where nothing is trained. The logits
depend on the features all the same, and their gradient exists: it is only not recorded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# What torch.no_grad() and torch.set_grad_enabled(False) call, within and as decorators.
_SWITCH = torch._C._set_grad_enabled


class KeepGradients(TorchFunctionMode):
    """While it is active nothing switches gradients off, except ``torch.inference_mode``.

    Attributes:
        asked: How often something tried to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass on every function but the one."""
        if func is _SWITCH and not args[0]:
            self.asked += 1
            return None
        return func(*args, **(kwargs or {}))
