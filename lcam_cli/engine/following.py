"""Following where numbers lie in the image (``engine.places``) while a network runs.

PyTorch shows a dispatch mode every operation that runs, whatever asks for it: modules, functions,
blocks of TorchScript, exported programs. Each has a rule here:

- What PyTorch tags as pointwise takes from every tensor the number of the same place.
- A window (convolution, pooling) lies in the middle of what it sees. What padding and interpolation
  make lies between and around what is there.
- Sums along an axis (means, products of matrices) lie in the middle of what they sum; those over
  the whole image, as in squeeze and excitation, nowhere.
- Attention does not move tokens: what it gives lies where its query does. Nor do norms move.
- What moves numbers, as ``cat`` and ``roll`` do, is run on their places too.

Views need no rule, because places belong to memory: a view, however it came about, has those of the
memory that it shows. What has no rule gives places that are not known. What PyTorch does not show,
such as what NumPy computes, is taken for a parameter.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakIdKeyDictionary

from lcam_cli.engine import places as where
from lcam_cli.engine.places import at, over

_Geometry = tuple[torch.Size, tuple[int, ...], int]


@dataclass(frozen=True)
class _Region:
    """The places of the numbers that a tensor of some geometry shows of a memory of ``count``."""

    places: Tensor
    geometry: _Geometry
    count: int

    def flat(self) -> Tensor:
        """The places of all numbers of the memory, in order: (4, count)."""
        flat = where.nowhere(1).repeat(1, self.count)
        _view(flat, self.geometry).copy_(self.places)
        return flat


class Memory:
    """The places of the numbers in memory, for as long as it is in use."""

    def __init__(self) -> None:
        self._regions = WeakIdKeyDictionary(ref_type=weakref.ref)

    def __len__(self) -> int:
        return len(self._regions)

    def holds(self, t: Tensor) -> bool:
        """Whether any number in a tensor's memory has a place."""
        return t.layout is torch.strided and t.untyped_storage() in self._regions

    def read(self, t: Tensor) -> Tensor:
        """The places of a tensor's numbers: (4, *sizes)."""
        if not self.holds(t):
            return where.nowhere(t.ndim)
        region: _Region = self._regions[t.untyped_storage()]
        if region.geometry == _geometry(t):
            return region.places
        return where.compressed(_view(self._flat(t), _geometry(t)))

    def write(self, t: Tensor, places: Tensor) -> None:
        """Give a tensor's numbers places; those of the other numbers in its memory stay."""
        region = _Region(places, _geometry(t), _count(t))
        if t.numel() != region.count and self.holds(t):
            flat = self._flat(t)
            _view(flat, region.geometry).copy_(places)
            region = _Region(flat, (torch.Size([region.count]), (1,), 0), region.count)
        self._regions[t.untyped_storage()] = region

    def _flat(self, t: Tensor) -> Tensor:
        """The places of all numbers in a tensor's memory, in order: (4, count)."""
        region: _Region = self._regions[t.untyped_storage()]
        if region.count != _count(t):  # numbers of another size, or the memory has grown
            return where.unknown(1).repeat(1, _count(t))
        return region.flat()


def _geometry(t: Tensor) -> _Geometry:
    return t.shape, t.stride(), int(t.storage_offset())


def _count(t: Tensor) -> int:
    """How many numbers there is room for in the memory that a tensor shows."""
    return t.untyped_storage().nbytes() // t.element_size()


def _view(flat: Tensor, geometry: _Geometry) -> Tensor:
    """What a tensor of some geometry shows of the places (4, n) of a memory."""
    size, stride, offset = geometry
    return flat.as_strided((4, *size), (flat.shape[1], *stride), offset)


class Follow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While this is active, all that is computed of some images has places.

    Args:
        pictures: (B, C, H, W), which the network is then given.

    Attributes:
        memory: The places.
    """

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.memory = Memory()
        self.memory.write(pictures, where.of_pictures(*pictures.shape[2:]))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func.namespace == "aten":
            # Whole ``conv2d`` and ``reshape`` are shown in this mode alone; take their parts.
            with self:
                results = func.decompose(*args, **kwargs)
            if results is not NotImplemented:
                return results
        results = func(*args, **kwargs)
        call = _Call(func, args, kwargs, _tensors(results), self.memory)
        if any(map(self.memory.holds, call.tensors)) and not call.is_view:
            self._note(call)
        return results

    def _note(self, call: _Call) -> None:
        """Give places to all that an operation made or changed."""
        if not call.made:
            return
        if any(t.layout is not torch.strided for t in call.made):
            raise NotImplementedError(f"{call.name} makes a tensor without strides")
        places = _places_of(call)
        for t in call.made:
            same = t.shape == call.result.shape
            self.memory.write(t, places if same else where.unknown(t.ndim))


@dataclass(frozen=True)
class _Call:
    """A call of an operation, and the tensors that it gave."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[Tensor]
    memory: Memory

    @cached_property
    def tensors(self) -> list[Tensor]:
        return _tensors((*self.args, *self.kwargs.values()))

    @cached_property
    def made(self) -> list[Tensor]:
        """What it gave, and what it was given and changed."""
        arguments = self.func._schema.arguments
        changed = [a.name for a in arguments if a.alias_info and a.alias_info.is_write]
        return [*self.results, *_tensors([self.given(name) for name in changed])]

    @property
    def result(self) -> Tensor:
        """The first of these, whose places its rule finds."""
        return self.made[0]

    @property
    def name(self) -> str:
        """The operation's; that which works in place has the same."""
        return str(self.func._schema.name).removeprefix("aten::").rstrip("_")

    @property
    def is_view(self) -> bool:
        """Whether it gave memory that was there before, and changed nothing in it."""
        if self.func._schema.is_mutable and torch.Tag.inplace_view not in self.func.tags:
            return False
        return bool(self.results) and any(_share_memory(self.result, t) for t in self.tensors)

    def given(self, *names: str) -> Any:
        """An argument, by the first of these names that the operation knows; else None."""
        arguments = {a.name: (i, a) for i, a in enumerate(self.func._schema.arguments)}
        for name in names:
            if name in arguments:
                i, argument = arguments[name]
                given = self.args[i] if i < len(self.args) else argument.default_value
                return self.kwargs.get(name, given)
        return None

    def places(self, *names: str) -> Tensor:
        """The places of an argument, the first by default."""
        return self.memory.read(self.given(*names) if names else self.args[0])


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in _tensors(v)] if isinstance(value, list | tuple) else []


def _share_memory(a: Tensor, b: Tensor) -> bool:
    if a.layout is not torch.strided or b.layout is not torch.strided:
        return a is b
    return a.untyped_storage() is b.untyped_storage()


def _places_of(call: _Call) -> Tensor:
    """The places of an operation's result."""
    rule = _RULES.get(call.name)
    if torch.Tag.pointwise in call.func.tags:
        rule = _pointwise
    try:
        return rule(call) if rule else where.unknown(call.result.ndim)
    except Exception:  # called in a form that is not known here
        return where.unknown(call.result.ndim)


def _pointwise(call: _Call) -> Tensor:
    placed = [call.memory.read(t) for t in call.tensors if call.memory.holds(t)]
    return where.hull(placed, call.result.ndim)


def _as_the_first(call: _Call) -> Tensor:
    return call.places()


def _as_the_queries(call: _Call) -> Tensor:
    return over(call.places(), [-1])


def _nowhere(call: _Call) -> Tensor:
    return where.nowhere(call.result.ndim)


def _copied(call: _Call) -> Tensor:
    return where.aligned(call.places("src"), call.result.ndim)


def _convolved(call: _Call) -> Tensor:
    kernel = call.given("weight").shape[2:]
    return _windows(call, over(call.places(), [1]), kernel, call.given("transposed"))


def _pooled(call: _Call) -> Tensor:
    return _windows(call, call.places(), call.given("kernel_size"))


def _windows(
    call: _Call, places: Tensor, kernel: Sequence[int], transposed: bool = False
) -> Tensor:
    """The places of windows along the last axes, the first ``padding`` before the first number."""
    for i, size in enumerate(kernel):
        stride = _one(call.given("stride") or kernel, i)
        padding, dilation = _one(call.given("padding"), i), _one(call.given("dilation") or 1, i)
        middle = dilation * (size - 1) / 2 - padding
        dim = i - len(kernel)
        if stride == 1 and not middle:
            continue
        steps = torch.arange(call.result.shape[dim])
        positions = (steps - middle) / stride if transposed else stride * steps + middle
        places = at(places, dim, positions)
    return places


def _one(setting: Any, i: int) -> int:
    """A setting that may be one for all axes."""
    return int(setting if isinstance(setting, int) else setting[i % len(setting)])


def _adaptively_pooled(call: _Call) -> Tensor:
    places = call.places()
    for dim in (-2, -1):
        count, bins = call.args[0].shape[dim], call.result.shape[dim]
        if bins == 1:
            places = over(places, [dim])
            continue
        i = torch.arange(bins)
        first = i * count // bins
        last = -(-(i + 1) * count // bins) - 1
        places = at(places, dim, (first + last) / 2)
    return places


def _resized(call: _Call) -> Tensor:
    places = call.places()
    scales = call.given("scale_factors") or (call.given("scales_h"), call.given("scales_w"))
    for dim, scale in zip((-2, -1), scales, strict=True):
        old, new = call.args[0].shape[dim], call.result.shape[dim]
        steps = torch.arange(new)
        step = 1 / scale if scale else old / new
        if call.given("align_corners"):
            positions = steps * ((old - 1) / max(new - 1, 1))
        elif "nearest" in call.name and step > 1:  # one number of several
            first = 0.5 if "exact" in call.name else 0
            positions = ((steps + first) * step).floor()
        else:
            positions = (steps + 0.5) * step - 0.5
        places = at(places, dim, positions)
    return places


def _padded(call: _Call) -> Tensor:
    places, pad = call.places(), call.given("pad", "padding")
    for i in range(len(pad) // 2):
        dim, before = -1 - i, pad[2 * i]
        places = at(places, dim, torch.arange(call.result.shape[dim]) - before)
    return places


def _reduced(call: _Call) -> Tensor:
    dims = call.given("dim")
    dims = [dims] if isinstance(dims, int) else dims or range(call.args[0].ndim)
    places = over(call.places(), list(dims))
    if call.result.ndim == call.args[0].ndim:
        return places
    kept = [dim for dim in range(call.args[0].ndim) if dim not in {d % places.ndim for d in dims}]
    return places.reshape(4, *(places.shape[dim + 1] for dim in kept))


def _halved(call: _Call) -> Tensor:
    return over(call.places(), [call.given("dim")])


def _multiplied(call: _Call) -> Tensor:
    """The places of a product of matrices: of the first's rows, or of the second's columns.

    Where both have places these are queries and keys, of which queries come first, or weights of
    attention and values, which are summed.
    """
    rows = over(call.places("mat1", "batch1", "self"), [-1])
    columns = over(call.places("mat2", "batch2"), [-2])
    return where.narrower(rows, columns)


def _moved(call: _Call) -> Tensor:
    """What moves numbers, run on the four places of these; with the same indices."""
    indices = {id(t) for t in _tensors([call.given("index"), call.given("indices")])}
    read = {id(t): call.memory.read(t) for t in call.tensors if id(t) not in indices}

    def run(i: int) -> Any:
        def placed(value: Any) -> Any:
            if not torch.is_tensor(value):
                return value
            return read[id(value)][i].expand(value.shape) if id(value) in read else value.cpu()

        args, kwargs = tree_map(placed, (call.args, call.kwargs))
        return call.func(*args, **kwargs)

    return where.compressed(torch.stack([run(i) for i in range(4)]))


def _joined(call: _Call) -> Tensor:
    """As :func:`_moved`; with less to compute where all lie alike, as branches do."""
    first, *others = (
        call.memory.read(t) for t in call.given("tensors") if t.ndim == call.result.ndim
    )
    same = first.shape[call.given("dim") % call.result.ndim + 1] == 1
    return first if same and all(torch.equal(first, o) for o in others) else _moved(call)


_RULES: dict[str, Callable[[_Call], Tensor]] = {
    name: rule
    for rule, names in (
        # Not tagged as such in all versions of PyTorch, at least in place.
        (_pointwise, "hardswish hardtanh hardsigmoid relu6 leaky_relu elu celu selu gelu mish"),
        (_pointwise, "threshold clone _to_copy _prelu_kernel log_sigmoid_forward"),
        (_as_the_first, "native_batch_norm _native_batch_norm_legit _batch_norm_no_update"),
        (_as_the_first, "_batch_norm_with_update"),
        (_as_the_first, "_native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm"),
        (_as_the_first, "native_layer_norm native_group_norm _fused_rms_norm native_dropout"),
        (_as_the_first, "_softmax _log_softmax _safe_softmax"),
        (_as_the_queries, "_scaled_dot_product_flash_attention_for_cpu"),
        (
            _as_the_queries,
            "_scaled_dot_product_flash_attention _scaled_dot_product_cudnn_attention",
        ),
        (_as_the_queries, "_scaled_dot_product_efficient_attention"),
        (_as_the_queries, "_native_multi_head_attention _transformer_encoder_layer_fwd"),
        (_nowhere, "zero fill zeros_like ones_like full_like empty_like rand_like randn_like"),
        (_nowhere, "new_zeros new_ones new_full new_empty bernoulli uniform normal exponential"),
        (_copied, "copy"),
        (_convolved, "convolution _convolution"),
        (_pooled, "max_pool2d_with_indices avg_pool2d"),
        (_adaptively_pooled, "_adaptive_avg_pool2d adaptive_max_pool2d"),
        (_resized, "upsample_nearest2d _upsample_nearest_exact2d"),
        (_resized, "upsample_bilinear2d _upsample_bilinear2d_aa"),
        (_resized, "upsample_bicubic2d _upsample_bicubic2d_aa"),
        (_padded, "constant_pad_nd reflection_pad2d replication_pad2d"),
        (_reduced, "mean sum prod amax amin max min logsumexp norm linalg_vector_norm"),
        (_reduced, "var var_mean std std_mean"),
        (_halved, "glu"),
        (_multiplied, "mm bmm addmm baddbmm"),
        (_joined, "cat"),
        (_moved, "stack roll flip index index_select gather repeat im2col"),
        (_moved, "pixel_shuffle pixel_unshuffle native_channel_shuffle"),
    )
    for name in names.split()
}
