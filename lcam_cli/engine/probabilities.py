"""Networks whose last step is a softmax or a sigmoid: their outputs are scores already.

A softmax of these scores would be another function, and the gradient of a sure one is exactly zero.
So the last step is taken off: what it was given are the logits. Where that cannot be had, they are
the scores' logarithm (softmax) or log-odds (sigmoid), which give the same scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from lcam_cli.errors import LcamError

Kind = Literal["softmax", "sigmoid", "log_softmax"]

_FUNCTIONS: dict[str, Kind] = {
    "softmax": "softmax",
    "special_softmax": "softmax",
    "sigmoid": "sigmoid",
    "expit": "sigmoid",
    "special_expit": "sigmoid",
    "log_softmax": "log_softmax",
    "special_log_softmax": "log_softmax",
}
_MODULES: dict[type[nn.Module], Kind] = {
    nn.Softmax: "softmax",
    nn.Sigmoid: "sigmoid",
    nn.LogSoftmax: "log_softmax",
}
# Nodes of the gradient's graph that change no value between 0 and 1.
_SAME = ("View", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice", "Clamp", "ToCopy", "Clone")
_SMALLEST = torch.finfo(torch.float32).tiny
_FROM_ONE = 2.0**-24  # 1 less this is the largest float32 below 1


def check_kind(name: str) -> Kind | Literal[""]:
    """Return ``name`` if it is a kind, or empty; files from strangers can say anything.

    Raises:
        LcamError: It is neither.
    """
    if name and name not in get_args(Kind):
        raise LcamError(
            f"unknown last step {name!r}",
            f"use an empty text or one of: {', '.join(get_args(Kind))}",
        )
    return cast("Kind | Literal['']", name)


def kind_of(outputs: Tensor, last_step: Kind | None) -> Kind | None:
    """Tell probabilities from logits.

    Args:
        outputs: (n, R), of several inputs.
        last_step: What is seen to be the network's last step. Only a sigmoid needs it: small logits
            may lie between 0 and 1 by chance, but rows that sum to 1 do not come by chance.
    """
    several = outputs.shape[1] > 1
    if several and _sums_to_one(outputs):
        return "softmax"
    if several and bool((outputs <= 0).all()) and _sums_to_one(outputs.exp()):
        return "log_softmax"
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    return "sigmoid" if last_step == "sigmoid" and within else None


def _sums_to_one(rows: Tensor) -> bool:
    return bool((rows >= 0).all() and ((rows.sum(1) - 1).abs() < 1e-4).all())


def scores_of(logits: Tensor, kind: Kind) -> Tensor:
    """What the last step makes of logits (B, R)."""
    if kind == "sigmoid":
        return logits.sigmoid()
    return logits.softmax(1) if kind == "softmax" else logits.log_softmax(1)


def logits_of(outputs: Any, kind: Kind) -> Any:
    """Finite logits (B, R) that give these outputs (B, R) again."""
    if kind == "log_softmax":
        return outputs
    if kind == "sigmoid":
        return outputs.float().logit(_FROM_ONE)
    return outputs.float().clamp(min=_SMALLEST).log()


# --- the last step, while the network runs --------------------------------------------------------


class _Call(NamedTuple):
    kind: Kind
    given: Tensor
    output: Tensor


class LastSteps(TorchFunctionMode):
    """Notes, while a network runs, what softmax and sigmoid functions are given and give.

    Args:
        classes: R. Those of other sizes, such as attention's, are not kept.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._classes = classes
        self._calls: list[_Call] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function, and note it."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").partition(".")[0]
        kind = _FUNCTIONS.get(name.strip("_"))
        given: Any = args[0] if args else kwargs.get("input")
        if kind is not None and name.endswith("_"):  # in place
            given = given.clone()
        output = func(*args, **kwargs)
        if kind and torch.is_tensor(output) and output.shape[1:].numel() in (self._classes, 1):
            self._calls.append(_Call(kind, given, output))
        return output

    def of(self, output: Tensor) -> tuple[Kind, Tensor] | None:
        """The step whose output this is, maybe in another shape: its kind, and what it was given.

        What it was given has the shape of ``output``.
        """
        for call in reversed(self._calls):
            same = call.output is output or (
                call.output.data_ptr() == output.data_ptr()
                and call.output.numel() == output.numel()
                and output.is_contiguous()
            )
            if same:
                return call.kind, call.given.reshape(output.shape)
        return None


def before_traced(output: fx.Proxy) -> fx.Proxy:
    """What the last step is given in a network that is being traced.

    Returns ``output`` itself where that is not seen: whoever traces compares the logits.
    """
    node = output.node
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    kind = _FUNCTIONS.get(name.partition(".")[0])
    if node.op == "call_module":
        root: Any = getattr(output.tracer, "root", None)
        kind = _MODULES.get(type(root.get_submodule(name)))
    given = node.args[0] if node.args else node.kwargs.get("input")
    return fx.Proxy(given, output.tracer) if kind and isinstance(given, fx.Node) else output


def last_step(run: Callable[[Tensor], Tensor], picture: Tensor, classes: int) -> Kind | None:
    """What a network's last step is seen to be.

    Args:
        run: From an image to the outputs, as they came.
        picture: (1, C, H, W).
        classes: R.
    """
    with torch.no_grad(), LastSteps(classes) as steps:
        found = steps.of(run(picture.clone()))
    if found is not None:
        kind: Kind = found[0]
        return kind
    # What runs outside of Python, such as a TorchScript module, is seen by its gradient.
    try:
        with torch.enable_grad():
            node: Any = run(picture.clone().requires_grad_() * 1).grad_fn
    except Exception:  # code that cannot be differentiated can fail in any way
        return None
    while node is not None and str(node.name()).startswith(_SAME):
        node = node.next_functions[0][0] if node.next_functions else None
    is_sigmoid = node is not None and str(node.name()).startswith("Sigmoid")
    return "sigmoid" if is_sigmoid else None
