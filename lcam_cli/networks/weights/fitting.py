"""Trials: the network's own ``load_state_dict`` says whether it takes a state dict."""

from __future__ import annotations

import inspect
import itertools
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lcam_cli.networks.weights.differences import Mismatch, common_prefix
from lcam_cli.networks.weights.pickles import OpaqueObject
from lcam_cli.networks.weights.renaming import (
    LEFTOVER,
    Renaming,
    Shapes,
    bare_name,
    bare_names,
    key_within,
    renamed_state,
    shapes_agree,
    shapes_of,
    weights_among,
)
from lcam_cli.networks.weights.state_dicts import Candidate
from lcam_cli.networks.weights.tensors import is_plain

# Of what is no weight (LEFTOVER), the entries that a network makes by itself and a file may lack.
_MADE_BY_NETWORK = re.compile(
    r"(^|\.)(num_batches_tracked|n_averaged|relative_position_index|relative_coords_table"
    r"|attn_mask|position_ids)$"
)
# What load_state_dict says of names and shapes, which are compared here.
_COMPARED = re.compile(r"size mismatch for|Error\(s\) in loading|(Missing|Unexpected) key|\"")
_ALIGNED = 64  # bytes
_AVERAGED = re.compile(r"(?i)(?<![a-z])(ema|swa|avg|averaged?|averaged_model|teacher)(?![a-z])")


@dataclass
class Fit:
    """A state dict that fits a network.

    Attributes:
        candidate: The state dict.
        renaming: How its names became the network's.
        state: As the network names its entries.
        left_out: The entries that are none of the network's.
        missing: The network's entries that the file lacks and need not have.
        key: What the user may call it: ``"model_ema"``.
    """

    candidate: Candidate
    renaming: Renaming
    state: Mapping[str, Any]
    left_out: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    key: str = ""

    @property
    def is_averaged(self) -> bool:
        """Whether these are averages over training, by their place or by their counter."""
        counters = [k for k in (*self.left_out, *self.state) if k.endswith("n_averaged")]
        counted = any(self.renaming.off.startswith(k.removesuffix("n_averaged")) for k in counters)
        return counted or named_averaged(self.candidate, self.renaming)


def named_averaged(candidate: Candidate, renaming: Renaming) -> bool:
    """Whether the place of a state dict says that it was averaged over training."""
    return bool(_AVERAGED.search(key_within(candidate, renaming)))


def same_weights(a: Fit, b: Fit) -> bool:
    """Whether two are the same weights, kept twice."""
    pairs = [(v, b.state.get(k)) for k, v in a.state.items() if isinstance(v, Tensor)]
    return all(isinstance(w, Tensor) and (v is w or _equal(v, w)) for v, w in pairs)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def try_loading(
    module: nn.Module, candidate: Candidate, renaming: Renaming, passed_over: Collection[str]
) -> Fit | Mismatch:
    """Let the network say whether it takes the state dict.

    Args:
        module: The network; it holds what it took afterwards.
        candidate: The state dict.
        renaming: How its entries are to be named.
        passed_over: First parts of names that the network is known to have no use for.
    """
    own = shapes_of(module)
    state, left_out = renamed_state(candidate.state, renaming, own)
    errors, missing, unexpected = load(module, state)
    shapes = {
        k: (tuple(state[k].shape), own[k])
        for k in own
        if isinstance(state.get(k), Tensor) and not shapes_agree(own[k], tuple(state[k].shape))
    }
    foreign = _unrelated(unexpected, own, passed_over)
    lacking = [k for k in missing if not _MADE_BY_NETWORK.search(k)]
    if lacking:
        lacking = _not_tied(module, lacking, state)
    opaque = {k: state[k].of for k in own if isinstance(state.get(k), OpaqueObject)}
    if errors or lacking or foreign or shapes or opaque:
        strange = [k for k in unexpected if not LEFTOVER.search(k)]
        return Mismatch(state, lacking, strange, shapes, errors, opaque)
    for k in unexpected:
        state.pop(k, None)
    others = [k for k in unexpected if k.partition(".")[0] not in passed_over]
    return Fit(candidate, renaming, state, left_out + others, missing)


def can_be_handed_over(module: nn.Module, state: Mapping[str, Any]) -> bool:
    """Whether a network may take a state dict's tensors themselves, and need not copy them.

    They must be what a copy would be: of the same types, each the only one in its memory, in plain
    order there, and beginning where PyTorch's own do, or products round in another order.
    """
    if type(module).load_state_dict is not nn.Module.load_state_dict:
        return False
    own = {k: v.dtype for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    tensors = {k: v for k, v in state.items() if k in own}
    for name, value in tensors.items():
        if type(value) is not Tensor or not is_plain(value) or value.dtype != own[name]:
            return False
    memory = {v.untyped_storage().data_ptr() for v in tensors.values()}
    return len(memory) == len(tensors) and all(
        v.is_contiguous()
        and v.data_ptr() % _ALIGNED == 0
        and v.untyped_storage().nbytes() == v.numel() * v.element_size()
        for v in tensors.values()
    )


def load(
    module: nn.Module, state: Mapping[str, Any], *, hand_over: bool = False
) -> tuple[list[str], list[str], list[str]]:
    """Load a state dict: the errors but for shapes, and the names missing and unexpected.

    Args:
        module: The network.
        state: The state dict.
        hand_over: Whether the network gets its tensors themselves, and not copies.
    """
    try:
        with warnings.catch_warnings():  # that the meta device takes no values
            warnings.simplefilter("ignore")
            result: Any = (
                module.load_state_dict(state, strict=False, assign=True)
                if hand_over
                else _strictly_or_not(module, state)
            )
    except Exception as error:  # hooks and load_state_dict of a user's can raise anything
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        errors = [line for line in lines if line and not _COMPARED.match(line)]
        own = module.state_dict()
        return errors, [k for k in own if k not in state], [k for k in state if k not in own]
    missing, unexpected = (
        getattr(result, f"{kind}_keys", []) for kind in ("missing", "unexpected")
    )
    return [], list(missing), list(unexpected)


def _strictly_or_not(module: nn.Module, state: Mapping[str, Any]) -> object:
    """Load with names left to be judged; a network's own method may not know how to."""
    if type(module).load_state_dict is nn.Module.load_state_dict:
        return module.load_state_dict(state, strict=False)
    if "strict" in inspect.signature(module.load_state_dict).parameters:
        result = module.load_state_dict(state, strict=False)
        if hasattr(result, "missing_keys"):
            return result
    return module.load_state_dict(state)


def _unrelated(unexpected: Sequence[str], own: Shapes, passed_over: Collection[str]) -> list[str]:
    """The names that are of a network, but another: those within modules that this one has too.

    A deeper network has all entries of a shallower one. A loss's or an optimiser's have names of
    their own.
    """
    bare = bare_names(own)
    return [
        name
        for name in unexpected
        if (_is_beside(name, own) or _is_beside(bare_name(name), bare))
        and name.partition(".")[0] not in passed_over
        and not LEFTOVER.search(name)
    ]


def _is_beside(name: str, own: Shapes) -> bool:
    """Whether the network has the module that this entry is within, or one like it: fc1, fc2."""
    prefix = common_prefix(weights_among(own))
    stems = {_stem(other[len(prefix) :]) for other in own}
    return name.startswith(prefix) and _stem(name[len(prefix) :]) in stems


def _stem(name: str) -> str:
    """The first part of a name, without the number that tells it from its like."""
    return name.partition(".")[0].rstrip("0123456789")


def _not_tied(module: nn.Module, missing: list[str], state: Mapping[str, Any]) -> list[str]:
    """Those of the missing that are not another name for a tensor that is there."""
    names: dict[int, list[str]] = {}
    for name, tensor in itertools.chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    tied = {n for group in names.values() if any(m in state for m in group) for n in group}
    return [name for name in missing if name not in tied]
