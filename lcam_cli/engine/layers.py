"""Finding the target layer: the call of a module whose output is A, the maps that are explained.

What counts is what reaches the logits, not what kind of module does: a classifier may be made of
linear layers, of plain parameters, or of quantised weights that are no parameters at all.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lcam_cli.engine.calls import Call, replace
from lcam_cli.engine.gradients import KeepGradients
from lcam_cli.engine.tokens import Layout, find_layout
from lcam_cli.errors import LcamError, did_you_mean

_POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
_PASS_THROUGH = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)
_WEIGHTS_OF_PLACES = (nn.Softmax, nn.LogSoftmax)
_ROUNDING = 1e-6
"""Logits that differ by less of their size are the same."""

GRID_HINT = "name the layer and its rows and columns of patches: --layer NAME --grid PxQ"


@dataclass(frozen=True)
class Place:
    """Where a layer stands in the forward pass.

    Attributes:
        call: Which of its calls counts: the last that gives feature maps on the way to A, or where
            there is none, in the whole pass.
        shape: (K, P, Q) of these, where they are on the way to A.
    """

    call: Call
    shape: tuple[int, int, int] | None


@dataclass(frozen=True)
class Target:
    """The target layer.

    Attributes:
        call: The module, and which of its calls.
        layout: How what it gives is read as A (B, K, P, Q).
        in_place: Whether the module changes what it is given and gives it back: then whoever else
            holds that sees A too.
        switches_gradients_off: Whether the network's own code does somewhere.
        places: Of all layers that run, by name.
    """

    call: Call
    layout: Layout
    in_place: bool
    switches_gradients_off: bool
    places: dict[str, Place]


@dataclass
class Event:
    """One module's call, in the order the calls ended.

    Attributes:
        name: The module's.
        number: Which of its calls, from 0.
        module: The module.
        given: Its first argument.
        output: What it gave; the tensor itself, so that ``is`` tells equal ones.
        layout: How that is read as feature maps; None where it has no places.
    """

    name: str
    number: int
    module: nn.Module
    given: object
    output: object
    layout: Layout | None

    @property
    def in_place(self) -> bool:
        """Whether it gave back what it was given, changed or not."""
        return share_memory(self.given, self.output)

    @property
    def places(self) -> Layout:
        """The layout of one that has places."""
        assert self.layout is not None
        return self.layout

    @property
    def channels(self) -> int:
        """K of one that has places."""
        return self.places.fold(cast(Tensor, self.output)).shape[1]


def find_target(network: nn.Module, picture: Tensor, grid: tuple[int, int] | None = None) -> Target:
    """Find the last features that have a place in the picture and that the logits depend on.

    In a convolutional network that is the last spatial output before the classifier that no pooling
    made: ``features.29`` in VGG-16, ``layer4`` in ResNet-50, ``features.18`` in MobileNetV2. Maps
    of class scores, which only wait to be averaged, belong to the classifier. Where a block and its
    last part give the same output, the block is named, unless it holds the whole trunk.

    In a transformer it is the last output whose patches still reach the classifier: the first norm
    of a ViT's last block, behind whose attention only the class token goes on; the last norm where
    patches are averaged.

    Args:
        network: The classifier, in eval mode, frozen.
        picture: One input, (1, 3, H, W).
        grid: P and Q of a transformer's patches, where the user says so.

    Raises:
        LcamError: Nothing spatial reaches the logits, or tokens of which it is not known where they
            lie.
    """
    with _lively(network):
        flow = _Flow(network, picture, grid)
        try:
            found = flow.last()
        except LcamError:
            _refuse_unknown_tokens(flow.events, flow.events, grid)
            raise
        # What comes before is behind it: a --grid alone is held against all.
        start = 0 if grid else next(i for i, e in enumerate(flow.events) if e is found)
        _refuse_unknown_tokens(flow.events[start:], flow.events, grid)
        return flow.target(found)


def locate_target(
    network: nn.Module, layer: str, picture: Tensor, grid: tuple[int, int] | None = None
) -> Target:
    """Find the last call of a named layer whose output has places that the logits depend on.

    Args:
        network: The classifier, in eval mode, frozen.
        layer: The layer's name.
        picture: One input, (1, 3, H, W).
        grid: P and Q of a transformer's patches, where the user says so.

    Raises:
        LcamError: There is no such layer, it gives nothing with places, or nothing that the logits
            depend on.
    """
    layer = resolve_layer(network, layer)
    with _lively(network):
        flow = _Flow(network, picture, grid)
        calls = [e for e in flow.events if e.name == layer]
        if not calls:
            raise LcamError(
                f"layer {layer!r} does not run in a forward pass",
                "name one that does: --layer NAME, or leave --layer out",
            )
        spatial = [e for e in calls if e.layout is not None]
        if not spatial:
            raise _no_places(calls[-1], flow.events, grid)
        for event in spatial:
            _refuse_other_grid(event, flow.events, grid)
        reaching = [e for e in reversed(spatial) if flow.reaches(e)]
        if not reaching:
            raise _of_no_effect(spatial[-1], flow)
        # As where the layer is found: one ReLU may run on features, then on maps of class scores.
        return flow.target(next((e for e in reaching if flow.are_features(e)), reaching[0]))


def check_layer(network: nn.Module, layer: str) -> None:
    """Check that the network has a module of that name.

    Raises:
        LcamError: It has not; the message names near ones.
    """
    resolve_layer(network, layer)


def resolve_layer(network: nn.Module, layer: str) -> str:
    """The first name of a module that may have several.

    Raises:
        LcamError: As :func:`check_layer`.
    """
    modules = {n: m for n, m in network.named_modules(remove_duplicate=False) if n}
    if layer not in modules:
        top = ", ".join(name for name, _ in network.named_children())
        raise LcamError(
            f"no layer {layer!r} in this network",
            f"{did_you_mean(layer, modules)} Its parts: {top}.".strip(),
        )
    return str(next(name for name, module in modules.items() if module is modules[layer]))


class _Flow:
    """One picture's way through a network, and what of it the logits depend on.

    Args:
        network: The classifier.
        picture: (1, 3, H, W).
        grid: P and Q of patches, where the user says so.

    Attributes:
        events: The calls of modules.
        logits: (1, R).
        switches_gradients_off: Whether the network's own code does somewhere.
    """

    def __init__(self, network: nn.Module, picture: Tensor, grid: tuple[int, int] | None) -> None:
        self.network = network
        self.picture = picture
        self.grid = grid
        self.switches_gradients_off = False
        self._others: dict[tuple[str, int], object] | None = None  # of another picture
        try:
            # Computed, as networks may change their input in place.
            given = picture.clone().requires_grad_() * 1
            with torch.enable_grad(), KeepGradients() as kept:
                self._given, self.events, self.logits = given, *_record(network, given, grid)
            self.switches_gradients_off = kept.asked > 0
        except Exception:  # code that only runs without gradients
            given = picture.clone()
            with torch.no_grad():
                self._given, self.events, self.logits = given, *_record(network, given, grid)

    def target(self, event: Event) -> Target:
        """What the rest of the program knows of a call."""
        _refuse_doubtful_square(event, self.events, self.grid)
        places = _places(self.events, event)
        call = places[event.name].call
        return Target(call, event.places, event.in_place, self.switches_gradients_off, places)

    def last(self) -> Event:
        """The last call that gives features and that the logits depend on.

        Raises:
            LcamError: There is none.
        """
        candidates = self._candidates()
        scores: list[Event] = []  # maps of class scores: features where there are no others
        # Where gradients are zero everywhere (rounded values) only trying tells.
        for by_gradients in (True, False):
            tried: list[object] = []
            for event in reversed(candidates):
                if any(event.output is other for other in tried):
                    continue
                tried.append(event.output)
                if by_gradients and self._has_gradient(event) is False:
                    continue
                named = _outermost([e for e in candidates if e.output is event.output])
                if not self.reaches(named):
                    continue
                if self.are_features(named):
                    return named
                scores.append(named)
        if scores:
            return scores[0]
        if self.is_by_chance():
            raise by_chance()
        if candidates:
            raise LcamError(
                "no layer's features change the logits of a random picture",
                "load trained weights, or name the layer: --layer NAME",
            )
        raise self._not_one_a_picture() or LcamError(
            "found no convolutional features or patches in this network",
            "name the layer: --layer NAME; for a transformer also its patches: --grid PxQ",
        )

    def _not_one_a_picture(self) -> LcamError | None:
        """What to say where layers run on parts of a picture, or on several made of it."""
        for event in reversed(self.events):
            output = event.output
            if not (torch.is_tensor(output) and output.ndim == 4 and len(output) > 1):
                continue
            if output.shape[2] > 1 and not output.is_quantized:
                return LcamError(
                    f"layer {event.name} gives {shape_of(output)} for one picture: "
                    f"{len(output)} maps, not one",
                    "have forward() call its layers once a picture: crops or a second picture "
                    "in calls of their own",
                )
        return None

    def is_by_chance(self) -> bool:
        """Whether the same picture gives other logits each time."""
        with torch.no_grad():
            others = [self.network(self.picture.clone()) for _ in range(2)]
        return not all(close(other, self.logits.detach()) for other in others)

    def reaches(self, event: Event) -> bool:
        """Whether A put back as it is gives the logits, and A changed gives others."""
        logits, other = self.logits.detach(), None
        # The network's own code can fail in any way on what it did not compute.
        with contextlib.suppress(Exception):
            other = self._put(event, lambda A: A + _noise(A))
            # The common case, in which one run tells.
            if self._has_gradient(event) and not close(other, logits):
                return True
        try:
            same = self._put(event, lambda A: A)
        except Exception:
            return False
        if not close(same, logits):
            return False
        if other is None:  # it checks what it is given: so it does read it
            return True
        rounding = 0.0 if self._has_gradient(event) else _ROUNDING
        return not bool((other - same).abs().max() <= rounding * same.abs().max())

    def are_features(self, event: Event) -> bool:
        """Whether a call gives features, and not what is made of them or weighs them."""
        return any(event is e for e in self._candidates()) and not self._are_class_scores(event)

    def _put(self, event: Event, change: Callable[[Tensor], Tensor]) -> Tensor:
        """The logits where a call gives changed feature maps."""

        def put(output: Tensor) -> Tensor:
            layout = event.places
            changed = layout.unfold(change(layout.fold(output.clone())), output)
            return output.copy_(changed) if event.in_place else changed

        with torch.no_grad(), replace(self.network, event.name, event.number, put):
            return cast(Tensor, self.network(self.picture.clone()))

    def _has_gradient(self, event: Event) -> bool | None:
        """Whether the logits have a gradient at a call's places; None where there is no telling."""
        output = cast(Tensor, event.output)
        if not (self.logits.requires_grad and output.requires_grad):
            return None
        # Not the sum, which a LayerNorm makes constant.
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(self.logits.shape, generator=generator).to(self.logits)
        total = (self.logits * weights).sum()
        try:
            with warnings.catch_warnings():  # of operations that pass none on
                warnings.simplefilter("ignore")
                (g,) = torch.autograd.grad(total, output, retain_graph=True, allow_unused=True)
        except RuntimeError:  # what the gradient needs was changed in place
            return None
        return None if g is None else bool(event.places.fold(g).any())

    def _is_of_picture(self, event: Event) -> bool:
        """Whether what a call gives changes with the picture, and is not of a stored reference."""
        output = cast(Tensor, event.output)
        if output.requires_grad or not self._given.requires_grad:
            return True
        if self._others is None:
            with torch.no_grad():
                events, _ = _record(self.network, self.picture.flip(2, 3) / 2, self.grid)
            self._others = {(e.name, e.number): e.output for e in events}
        other = self._others.get((event.name, event.number))
        return not (torch.is_tensor(other) and torch.equal(other, output))

    def _are_class_scores(self, event: Event) -> bool:
        """Whether these are maps of class scores: each channel changes its own logit alone.

        They are what a 1×1 convolution made of the features, before the average is taken.
        """
        classes = self.logits.shape[1]
        if event.channels != classes:
            return False
        if classes == 1:
            return True
        changed = torch.arange(classes) % 2 == 0
        some = changed[:, None, None]
        try:
            moved = self._put(event, lambda A: A + _noise(A) * some.to(A))
            moved = (moved - self._put(event, lambda A: A))[0]
        except Exception:  # as above
            return False
        still = moved[~changed]
        if len(still) > 1:  # a softmax's logarithm moves all others by the same
            still = still - still[0]
        return bool(still.abs().max() <= 10 * _ROUNDING * moved[changed].abs().max())

    def _candidates(self) -> list[Event]:
        """The calls that may give features, by what they are and what they give."""
        pooled = [e.output for e in self.events if isinstance(e.module, _POOLING)]
        spatial = [
            e
            for e in self.events
            if e.layout is not None
            and not isinstance(e.module, _POOLING + _PASS_THROUGH + _WEIGHTS_OF_PLACES)
            and not any(e.output is p for p in pooled)
        ]
        lists = [e for e in spatial if e.places.kind == "list"]
        if lists:
            counts = {cast(Tensor, e.output).shape[1] for e in lists}
            spatial = [e for e in spatial if _holds_features_of_tokens(e, counts)]
        spatial = [e for e in spatial if self._is_of_picture(e)] or spatial
        # One map weighs places, as attention does; it is no feature.
        several = [e for e in spatial if e.channels > 1]
        # What is given the picture is the whole trunk: its last part is named instead.
        inner = [e for e in several or spatial if e.given is not self._given]
        return inner or several or spatial


def _places(events: Sequence[Event], target: Event) -> dict[str, Place]:
    """Where all layers stand that run, given the call that A is from."""
    end = next(i for i, event in enumerate(events) if event is target)
    by_name: dict[str, list[tuple[int, Event]]] = {}
    for i, event in enumerate(events):
        by_name.setdefault(event.name, []).append((i, event))
    places = {}
    for name, calls in by_name.items():
        maps = [(i, e) for i, e in calls if e.layout is not None and e.layout.kind == "maps"]
        before = [(i, e) for i, e in maps if i <= end]
        chosen = target if name == target.name else (before or maps or calls)[-1][1]
        shape = None
        if before:
            K, P, Q = cast(Tensor, chosen.output).shape[1:]
            shape = (K, P, Q)
        places[name] = Place(Call(name, len(calls) - 1 - chosen.number), shape)
    return places


def _outermost(same: Sequence[Event]) -> Event:
    """Of the calls that gave the very same tensor, the outermost; of several of those the last."""
    depth = min(e.name.count(".") for e in same)
    return [e for e in same if e.name.count(".") == depth][-1]


def _holds_features_of_tokens(event: Event, counts: set[int]) -> bool:
    """Whether a transformer's call gives features rather than parts of its attention."""
    layout, output = event.places, cast(Tensor, event.output)
    # Linear layers inside attention give queries, keys and values: no features of their own.
    if isinstance(event.module, nn.Linear):
        return False
    if layout.kind == "list":
        return True
    # A head's queries (B, heads, N, K), and its attention (B, heads, N, N).
    return layout.P == layout.Q and not (layout.kind == "maps" and output.shape[2] in counts)


def _refuse_unknown_tokens(
    some: Sequence[Event], events: Sequence[Event], grid: tuple[int, int] | None
) -> None:
    """Refuse tokens, among ``some`` of all ``events``, of which it is not known where they lie."""
    for event in some:
        if isinstance(event.module, nn.LayerNorm) and _is_unknown_list(event):
            if grid is not None:
                _refuse_other_grid(event, events, grid)
            count, batch = cast(Tensor, event.output).shape[:2]
            if batch == 1 and count > 1:
                raise LcamError(
                    f"{event.name} gives tokens {shape_of(event.output)}, the batch second",
                    "lcam reads tokens (B, N, K): build the transformer with batch_first=True",
                )
            count = batch
            raise LcamError(
                f"which of the {count} tokens of {event.name} are patches is not known"
                + _that_fits(count, events),
                GRID_HINT,
            )
        if event.layout is not None:
            _refuse_other_grid(event, events, grid)


def _is_unknown_list(event: Event) -> bool:
    """Whether this is a list of one picture's tokens, batch first or not, of unknown layout."""
    output = event.output
    if not (torch.is_tensor(output) and output.ndim == 3) or max(output.shape[:2]) == 1:
        return False
    return 1 in output.shape[:2] and event.layout is None


def _patches_before(events: Sequence[Event]) -> Event | None:
    """The call that made the patches: the last maps before the first list of tokens."""
    made = None
    for event in events:
        output = event.output
        if torch.is_tensor(output) and output.ndim == 3 and output.shape[0] == 1:
            return made
        layout = find_layout(output)
        if layout is not None and layout.kind == "maps":
            made = event
    return None


def _that_fits(count: int, events: Sequence[Event]) -> str:
    """How so many tokens could be a square of patches behind others: ``"; 54 = 5 + 7x7"``."""
    made = _patches_before(events)
    side = math.isqrt(count)
    if made is not None:
        layout = cast(Layout, find_layout(made.output))
        if count >= layout.P * layout.Q:
            return f"; {count} = {count - layout.P * layout.Q} + {layout.P}x{layout.Q} would fit"
    return f"; {count} = {count - side * side} + {side}x{side} would fit"


def _refuse_other_grid(event: Event, events: Sequence[Event], grid: tuple[int, int] | None) -> None:
    """Refuse a ``--grid`` that the network itself contradicts.

    Raises:
        LcamError: The tokens were made of another number of patches.
    """
    output = event.output
    if grid is None or not (torch.is_tensor(output) and output.ndim == 3):
        return
    made, count = _patches_before(events), output.shape[1]
    layout = find_layout(made.output) if made is not None else None
    if made is None or layout is None or grid == (layout.P, layout.Q):
        return
    patches = layout.P * layout.Q
    if patches <= count:
        rest = f": {count - patches} of the {count} tokens are none" if count > patches else ""
        raise LcamError(
            f"--grid {grid[0]}x{grid[1]} is {grid[0] * grid[1]} patches, but {made.name} makes "
            f"{layout.P}x{layout.Q} = {patches}{rest}",
            f"--grid {layout.P}x{layout.Q}",
        )


def _refuse_doubtful_square(
    event: Event, events: Sequence[Event], grid: tuple[int, int] | None
) -> None:
    """Refuse tokens that are a square by their number alone, as 65 = 1 + 8x8 = 16 + 7x7 are.

    Raises:
        LcamError: They were made of another number of patches.
    """
    made = _patches_before(events)
    layout = find_layout(made.output) if made is not None else None
    if grid is not None or event.places.kind != "list" or layout is None:
        return
    count = cast(Tensor, event.output).shape[1]
    patches = layout.P * layout.Q
    # Where there are far more tokens, or fewer, other layers have changed their number since.
    if (layout.P, layout.Q) != (event.places.P, event.places.Q) and 0 <= count - patches < patches:
        raise LcamError(
            f"which of the {count} tokens of {event.name} are patches is not known"
            + _that_fits(count, events),
            GRID_HINT,
        )


def _no_places(event: Event, events: Sequence[Event], grid: tuple[int, int] | None) -> LcamError:
    """What to say of a named layer whose output has no places, or none that are known."""
    output = event.output
    what = f"layer {event.name!r} gives {shape_of(output)}"
    if grid is not None:
        return LcamError(f"{what}, where {grid[0]}x{grid[1]} places do not fit", GRID_HINT)
    if torch.is_tensor(output) and output.ndim == 3 and output.shape[1] > 1:
        return LcamError(
            f"{what}: which of these tokens are patches is not known"
            + _that_fits(output.shape[1], events),
            GRID_HINT,
        )
    return LcamError(
        f"{what}, not feature maps (B, K, P, Q) or tokens (B, N, K)",
        "name a layer of convolutional features or tokens: --layer NAME",
    )


def _of_no_effect(event: Event, flow: _Flow) -> LcamError:
    """What to say of a named layer that the logits do not depend on."""
    if flow.is_by_chance():
        return by_chance()
    kind = "patches" if event.places.kind == "list" else "feature maps"
    what = f"the {kind} at layer {event.name} do not change the logits"
    try:
        last = flow.last().name
    except LcamError as error:  # the reason holds for every layer
        return error
    return LcamError(f"{what}; the last that do: {last}", f"--layer {last}, or leave --layer out")


def by_chance() -> LcamError:
    """What to say of a network that is not a function of its pictures."""
    return LcamError(
        "the network gives other logits each time it runs on the same picture",
        "have its forward() draw no random numbers, and keep nothing from one call to the next, "
        "in eval mode",
    )


def share_memory(one: object, other: object) -> bool:
    """Whether two values are tensors of which a change of one changes the other."""
    if not (torch.is_tensor(one) and torch.is_tensor(other)):
        return False
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def shape_of(value: object) -> str:
    """A tensor's shape, or what else a value is, for messages."""
    return str(tuple(value.shape)) if torch.is_tensor(value) else f"a {type(value).__name__}"


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


def _noise(A: Tensor) -> Tensor:
    """Random numbers larger than the feature maps, and than what rounding takes away."""
    generator = torch.Generator().manual_seed(1)
    size = A.float().std().nan_to_num(1.0, 1.0, 1.0).clamp_min(0.5)
    return (2 * size * torch.randn(A.shape, generator=generator).to(size)).to(A.dtype)


@contextlib.contextmanager
def _lively(network: nn.Module) -> Iterator[None]:
    """Let weights that are zero, as those of a classifier before its training, be random meanwhile.

    Else the logits would depend on nothing.
    """
    zero = [p for p in network.parameters() if p.ndim > 1 and p.is_floating_point() and not p.any()]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in zero:
            p.copy_(0.02 * torch.randn(p.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for p in zero:
                p.zero_()


def _record(
    network: nn.Module, picture: Tensor, grid: tuple[int, int] | None
) -> tuple[list[Event], Tensor]:
    events: list[Event] = []
    runs: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def hook(module: nn.Module, given: tuple[object, ...], output: object) -> None:
            number = runs[name] = runs.get(name, -1) + 1
            layout = find_layout(output, grid)
            # Outputs stay referenced here, so `is` compares live tensors.
            first = given[0] if given else None
            events.append(Event(name, number, module, first, output, layout))

        return hook

    handles = [
        module.register_forward_hook(note(name), prepend=True)
        for name, module in network.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)  # which takes no hooks
    ]
    try:
        logits = cast(Tensor, network(picture))
    finally:
        for handle in handles:
            handle.remove()
    return events, logits
