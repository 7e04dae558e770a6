"""Tracing a network into a graph, also where it asks for the sizes of what it computes.

torch.fx runs ``forward`` on stand-ins. A question such as ``if x.shape[2] % 32`` has no answer
there, although it is the same for all images of one size. So what torch.fx alone cannot trace is
traced again with stand-ins that know their sizes, except those that depend on how many images
there are, and the types of their numbers. What depends on values stays without an answer: such a
network has no one graph.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

IsStep = Callable[[nn.Module, str], bool]
"""Whether a module, given with its name, is a single step of the graph."""


def trace(
    network: nn.Module,
    picture: Tensor | None = None,
    *,
    is_step: IsStep | None = None,
) -> fx.Graph | None:
    """Trace a network.

    Args:
        network: A network whose first input is images; others are left at their defaults.
        picture: One image, (1, C, H, W), whose sizes the graph may take for granted; without
            it a network that asks for sizes is not traced.
        is_step: Which modules are not looked into; default those of torch.nn.

    Returns:
        The graph; None where ``forward`` depends on values, or does what cannot be traced.
    """
    tracers: list[fx.Tracer] = [_Tracer(is_step)]
    if picture is not None:
        tracers.append(_SizedTracer(is_step, picture))
    for tracer in tracers:
        try:
            with _left_as_it_was(network):
                return tracer.trace(network, _defaults(network))
        except Exception:  # forward code on stand-ins can fail in any way
            continue
    return None


@contextlib.contextmanager
def _left_as_it_was(network: nn.Module) -> Iterator[None]:
    """Put back what a forward keeps in its modules, so that no stand-in is left there."""
    parts = [m for m in network.modules() if not isinstance(m, torch.jit.ScriptModule)]
    kept = [(m, dict(m.__dict__), [(v, v.copy()) for v in _containers(m)]) for m in parts]
    try:
        yield
    finally:
        for module, attributes, containers in kept:
            # What is new stays: torch.fx keeps a graph's constants in the network.
            module.__dict__.update(attributes)
            for container, content in containers:
                container.clear()
                container.extend(content) if isinstance(content, list) else container.update(
                    content
                )


def _containers(module: nn.Module) -> list[Any]:
    return [v for v in module.__dict__.values() if type(v) in (dict, list, OrderedDict, set)]


def _defaults(network: nn.Module) -> dict[str, Any] | None:
    """What else the network can be given, such as an attention mask, as it is by default."""
    parameters = inspect.signature(network.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} or None


class _Tracer(fx.Tracer):
    def __init__(self, is_step: IsStep | None) -> None:
        super().__init__()
        self._is_step = is_step

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if self._is_step is None:
            return super().is_leaf_module(m, module_qualified_name)
        return self._is_step(m, module_qualified_name)


class _SizedTracer(_Tracer):
    """Runs every step on two batches as it is traced, of two and of three images.

    What is the same for both does not depend on how many images there are.
    """

    def __init__(self, is_step: IsStep | None, picture: Tensor) -> None:
        super().__init__(is_step)
        self._pictures = tuple(picture.expand(n, -1, -1, -1) for n in _BATCHES)
        self._values: dict[fx.Node, tuple[Any, ...]] = {}
        self._given: fx.Proxy | None = None
        self._running = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Sized(node, self)

    def create_proxy(self, kind: str, *args: Any, **kwargs: Any) -> fx.Proxy:
        proxy = super().create_proxy(kind, *args, **kwargs)
        node = proxy.node
        if kind == "placeholder" and self._given is None:
            self._given = proxy
            self._values[node] = tuple(p.clone() for p in self._pictures)
        elif kind == "placeholder":
            self._values[node] = tuple(node.args[0] if node.args else None for _ in _BATCHES)
        elif kind != "output":
            self._values[node] = tuple(self._run(node, i) for i in range(len(_BATCHES)))
        return proxy

    def _run(self, node: fx.Node, i: int) -> Any:
        args = fx.map_arg(node.args, lambda n: self._value(n)[i])
        kwargs = fx.map_arg(node.kwargs, lambda n: self._value(n)[i])
        target: Any = node.target
        # While it traces, torch.fx has every module's call and attributes lead to the tracer.
        outer, self._running = self._running, True
        try:
            with torch.no_grad():
                if node.op == "call_function":
                    return target(*args, **kwargs)
                if node.op == "call_method":
                    return getattr(args[0], target)(*args[1:], **kwargs)
                found = operator.attrgetter(target)(self.root)
                return found(*args, **kwargs) if node.op == "call_module" else found
        finally:
            self._running = outer

    def _value(self, node: fx.Node) -> tuple[Any, ...]:
        if node.op == "get_attr" and node not in self._values:  # a tensor that stands as it is
            return (operator.attrgetter(str(node.target))(self.root),) * len(_BATCHES)
        return self._values[node]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if self._running:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        few, more = self._values[obj.node]
        if isinstance(few, tuple | list) and len(few) == len(more):
            return iter([operator.getitem(obj, i) for i in range(len(few))])
        return super().iter(obj)

    def to_bool(self, obj: fx.Proxy) -> bool:
        if _compares_types(obj.node):
            few, more = self._values[obj.node]
            if few is more:
                return bool(few)
        return super().to_bool(obj)

    def sizes_of(self, proxy: fx.Proxy) -> tuple[Any, ...]:
        """The sizes of a tensor: numbers, or where they depend on the batch stand-ins for them."""
        few, more = (value.shape for value in self._values[proxy.node])
        if len(few) != len(more):
            raise TypeError("the batch decides how many axes there are")
        return tuple(self._size(proxy, axis, few[axis], more[axis]) for axis in range(len(few)))

    def _size(self, proxy: fx.Proxy, axis: int, few: int, more: int) -> Any:
        if few == more:
            return few
        each, rest = divmod(few, _BATCHES[0])
        if rest or more != each * _BATCHES[1]:
            return self.create_proxy("call_method", "size", (proxy, axis), {})
        # In terms of the images, of which either half of a network that is cut knows the number.
        count = self.create_proxy("call_method", "size", (self._given, 0), {})
        return count if each == 1 else operator.mul(count, each)


_BATCHES = (2, 3)


def _compares_types(node: fx.Node) -> bool:
    """Whether this is a question about types of numbers alone, as ``x.dtype != y.dtype`` is."""
    return node.target in (operator.eq, operator.ne) and all(
        isinstance(arg, torch.dtype)
        or (isinstance(arg, fx.Node) and arg.target is getattr and arg.args[1] == "dtype")
        for arg in node.args
    )


class _Sized(fx.Proxy):
    """A stand-in that knows the sizes of what it stands for."""

    tracer: _SizedTracer

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.tracer.sizes_of(self)

    @property
    def ndim(self) -> int:
        return len(self.tracer.sizes_of(self))

    def dim(self) -> int:
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        sizes = self.tracer.sizes_of(self)
        return sizes if dim is None else sizes[dim]
