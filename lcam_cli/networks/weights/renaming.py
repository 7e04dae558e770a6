"""Under which names a state dict's entries fit a network.

Training wraps names in others (``module.``, ``_orig_mod.``, ``model.``). What of them comes off,
and what goes on instead, is found by counting the entries that then have a name and a shape of the
network's.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lcam_cli.networks.weights.differences import common_prefixes
from lcam_cli.networks.weights.state_dicts import TOP, Candidate

Shapes = Mapping[str, tuple[int, ...] | None]
"""Of a network's or a file's entries, by name; None where one is not known."""

# Parts that wrappers put between the names of modules.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw"}
_WRAPPERS |= {"_forward_module"}
LEFTOVER = re.compile(
    r"(^|\.)(num_batches_tracked|n_averaged|relative_position_index|relative_coords_table"
    r"|attn_mask|position_ids|total_ops|total_params|_extra_state)$"
)
"""What is computed anew, or counts steps, and is no weight wherever it stands."""


@dataclass(frozen=True)
class Renaming:
    """A way from a state dict's names to the network's.

    Attributes:
        off: What comes off the beginning; names without it are none of the network's.
        on: What goes on instead.
        bare: Whether what wrappers put inside names, on either side, is passed over.
    """

    off: str = ""
    on: str = ""
    bare: bool = False


def key_within(candidate: Candidate, renaming: Renaming) -> str:
    """What tells a state dict within a state dict: ``"state_dict.ema"``."""
    parts = [candidate.key if candidate.key != TOP else "", renaming.off.rstrip(".")]
    return ".".join(part for part in parts if part) or TOP


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...] | None]:
    """The network's names, and the shapes where they are known."""
    shapes: dict[str, tuple[int, ...] | None] = {}
    for name, value in module.state_dict().items():
        known = isinstance(value, Tensor) and not torch.nn.parameter.is_lazy(value)
        shapes[name] = tuple(value.shape) if known else None
    return shapes


def find_renamings(own: Shapes, theirs: Shapes) -> list[tuple[Renaming, int]]:
    """Ways to name a state dict's entries as the network does, and how many would match.

    The first is to leave them as they are; others follow, those that match the most first.
    """
    found: dict[Renaming, int] = {}
    wrapped = any(bare_name(name) != name for name in (*own, *theirs))
    for bare in (False, True) if wrapped else (False,):
        mine, given = (bare_names(own), bare_names(theirs)) if bare else (own, theirs)
        for on in common_prefixes(weights_among(mine)):
            rest = {n.removeprefix(on): shape for n, shape in mine.items() if n.startswith(on)}
            counts: Counter[str] = Counter()
            for key, shape in given.items():
                for cut in _cuts(key):
                    if key[cut:] in rest and shapes_agree(rest[key[cut:]], shape):
                        counts[key[:cut]] += 1
            # Where a network's own hooks rename every entry, nothing matches yet.
            for off in common_prefixes(weights_among(given)):
                counts[off] += 0
            for off, count in counts.most_common(4):
                found[Renaming(off, on, bare)] = count
    as_is = found.pop(Renaming(), 0)
    return [(Renaming(), as_is), *sorted(found.items(), key=lambda item: -item[1])]


def renamed_state(
    state: Mapping[Any, Any], renaming: Renaming, own: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The entries as the network names them, and the names of those that are none of its."""
    names = _own_names(own) if renaming.bare else {}
    renamed: OrderedDict[str, Any] = OrderedDict()
    others: list[str] = []
    for key, value in state.items():
        name = _translate(key, renaming, names) if isinstance(key, str) else None
        if name is not None and (isinstance(value, Tensor) or name in own):
            renamed[name] = value
        else:
            others.append(str(key))
    versions = getattr(state, "_metadata", None)
    if isinstance(versions, Mapping):  # the versions of modules, which their own hooks go by
        modules = [(_translate(f"{k}.x", renaming, names), v) for k, v in versions.items() if k]
        modules.append((f"{renaming.on}x" if not renaming.off else None, versions.get("", {})))
        own_versions = {k.rpartition(".")[0]: v for k, v in modules if k is not None}
        renamed._metadata = own_versions  # type: ignore[attr-defined]
    return renamed, others


def weights_among(names: Collection[str]) -> list[str]:
    """The names but for counters and the like, which wrappers add at the top."""
    return [name for name in names if not LEFTOVER.search(name)] or list(names)


def bare_names(names: Shapes) -> Shapes:
    """The same without what wrappers put inside names."""
    return {bare_name(name): shape for name, shape in names.items()}


def shapes_agree(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> bool:
    """Whether two shapes are the same, as far as they are known."""
    return a is None or b is None or a == b or {a, b} == {(), (1,)}


def bare_name(name: str) -> str:
    """``features.0.weight`` of ``features._orig_mod.0.module.weight``."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _cuts(name: str) -> list[int]:
    """Where parts of the name begin."""
    return [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]


def _own_names(own: Collection[str]) -> dict[str, str]:
    """The network's names, and those of its modules, by what they are without wrappers."""
    paths = {bare_name(name[:cut]): name[:cut] for name in own for cut in _cuts(name)[1:]}
    paths = {plain: path.rstrip(".") for plain, path in paths.items()}
    return paths | {bare_name(name): name for name in own}


def _translate(key: str, renaming: Renaming, names: Mapping[str, str]) -> str | None:
    """The network's name for ``key``; None where it is none of its."""
    plain = bare_name(key) if renaming.bare else key
    if not plain.startswith(renaming.off):
        return None
    plain = renaming.on + plain[len(renaming.off) :]
    if not renaming.bare or plain in names:
        return names.get(plain, plain)
    path, _, last = plain.rpartition(".")  # a hook of the module's may know the last part
    return ".".join(part for part in (names.get(path, path), last) if part)
