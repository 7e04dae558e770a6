"""Putting a file's weights into a network: whatever ``load_state_dict`` would take is taken.

A file may hold several state dicts, nested, and training wraps names in others (``module.``,
``_orig_mod.``, ``model.``). Which of them is meant, and what of its names comes off, is judged by
the network alone: :class:`WeightsFile` finds the state dicts, :func:`_renamings` the ways to name
their entries as the network does, and the network's own ``load_state_dict`` says whether one fits.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import logging
import re
import warnings
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lcam_cli.engine.checkpoint import read_content, sha256_of_file
from lcam_cli.engine.differences import (
    Misfit,
    common_prefix,
    common_prefixes,
    explain,
    object_told,
)
from lcam_cli.engine.pickles import Inert
from lcam_cli.errors import LcamError

log = logging.getLogger("lcam")

TOP = "."
"""The key of the state dict that is the whole file."""

# Parts that wrappers put between the names of modules.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw"}
_WRAPPERS |= {"_forward_module"}
_AVERAGED = re.compile(r"(?i)(?<![a-z])(ema|swa|avg|averaged?|averaged_model|teacher)(?![a-z])")
_MOMENTS = re.compile(r"(?i)optim|grad|moment|exp_avg")
# What is computed anew, or counts steps, and is no weight wherever it stands.
_LEFTOVER = re.compile(
    r"(^|\.)(num_batches_tracked|n_averaged|relative_position_index|relative_coords_table"
    r"|attn_mask|position_ids|total_ops|total_params|_extra_state)$"
)
# Of those, the ones that a network makes by itself and a file may lack.
_MADE_BY_NETWORK = re.compile(
    r"(^|\.)(num_batches_tracked|n_averaged|relative_position_index|relative_coords_table"
    r"|attn_mask|position_ids)$"
)
# What load_state_dict says of names and shapes, which are compared here.
_COMPARED = re.compile(r"size mismatch for|Error\(s\) in loading|(Missing|Unexpected) key|\"")
_DEPTH = 6  # of state dicts within dictionaries
_MOST = 64  # state dicts that are tried, and the longest list that is looked through


def split_key(weights: str) -> tuple[Path, str]:
    """Split ``FILE#KEY`` into the file and the key of a state dict in it, ``""`` where none is.

    A file whose own name has a ``#`` in it is found under that name.
    """
    path = Path(weights)
    if "#" not in path.name or path.exists():
        return path, ""
    file, _, key = weights.rpartition("#")
    return Path(file), key


@dataclass(frozen=True)
class Candidate:
    """A state dict in a file.

    Attributes:
        key: Where it lies: ``"model_ema"``, ``"checkpoint.model"``, or ``"."`` for the whole file.
        state: Names to tensors, and whatever else is there.
    """

    key: str
    state: Mapping[Any, Any]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors, by name."""
        tensors = {k: v for k, v in self.state.items() if isinstance(k, str)}
        return {k: tuple(v.shape) for k, v in tensors.items() if isinstance(v, Tensor)}


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
        return counted or bool(_AVERAGED.search(_key(self.candidate, self.renaming)))


class WeightsFile:
    """A file of weights, read once, to be put into a network.

    Args:
        weights: ``FILE``, or ``FILE#KEY`` for one of several state dicts in it.

    Attributes:
        path: The file.
        identity: ``"sha256:…"`` of the file; of it and the key, once :meth:`fit` has found that
            several of its state dicts fit.
        found_at: The file's whole path, with the key where there is one, to find it again.

    Raises:
        LcamError: The file cannot be read, is no weights file, would run code, or holds no tensors.
    """

    def __init__(self, weights: str) -> None:
        self.path, self._key = split_key(weights)
        self.identity = sha256_of_file(self.path)
        self.found_at = f"{self.path.resolve()}{'#' if self._key else ''}{self._key}"
        content = read_content(self.path)
        self._candidates = list(_candidates(content))
        if not self._candidates:
            raise _no_state_dict(self.path, content)

    def named_for(self, module: nn.Module) -> dict[str, Any]:
        """The entries of the likeliest state dict, as ``module`` names them.

        Only names are judged: the file may be of a network with another number of classes.
        """
        names: dict[str, None] = dict.fromkeys(_shapes_of(module))
        best: dict[str, Any] = {}
        most = -1
        for candidate in self._candidates:
            for renaming, _ in _renamings(names, dict.fromkeys(candidate.shapes)):
                if not self._means(candidate, renaming):
                    continue
                state, _ = _renamed(candidate.state, renaming, names)
                score = 2 * sum(name in names for name in state)
                score += bool(_AVERAGED.search(_key(candidate, renaming)))
                if score > most:
                    most, best = score, state
        return best

    def fit(self, module: nn.Module, name: str, *, passed_over: Collection[str] = ()) -> Fit:
        """Find what of the file fits ``module``, by trials; :meth:`put` then loads it.

        Where several state dicts fit, one that was averaged over training is taken, as training
        scripts evaluate it, and a warning says so.

        Args:
            module: The network; on the meta device nothing but shapes is tried.
            name: What the user calls it.
            passed_over: First parts of names that the network is known to have no use for.

        Raises:
            LcamError: Nothing fits; the message says what differs.
        """
        fits: list[Fit] = []
        misfits: list[Misfit] = []
        for candidate, renamings in _likeliest(self._candidates, _shapes_of(module), self._key):
            found = self._first_fits(module, candidate, renamings, passed_over, misfits)
            fits += [fit for fit in found if not any(_same(fit, other) for other in fits)]
        _name_them(fits)
        fits.sort(key=lambda fit: (bool(_MOMENTS.search(fit.key)), not fit.is_averaged))
        chosen = [fit for fit in fits if self._means(fit.candidate, fit.renaming)]
        if not chosen:
            if not misfits:
                raise self._no_such_key()
            raise explain(str(self.path), name, module, min(misfits, key=Misfit.size))
        if len(fits) > 1:
            if len(chosen) > 1:
                self._tell(name, chosen)
            told = f"{self.identity}#{chosen[0].key}"
            self.identity = "sha256:" + hashlib.sha256(told.encode()).hexdigest()
            self.found_at = f"{self.path.resolve()}#{chosen[0].key}"
        return chosen[0]

    def _first_fits(
        self,
        module: nn.Module,
        candidate: Candidate,
        renamings: Sequence[tuple[Renaming, int]],
        passed_over: Collection[str],
        misfits: list[Misfit],
    ) -> list[Fit]:
        """The renamings by which one state dict fits; how others differ is added to ``misfits``.

        What fits as it is is taken as it is, and wrappers inside names are passed over only where
        they are in the way. Renamings by which little matches are for networks that rename entries
        by hooks of their own.
        """
        most = max(score for _, score in renamings)
        fits: list[Fit] = []
        for renaming, score in sorted(renamings, key=lambda r: r[0] != Renaming()):
            if fits and (renaming.bare or 2 * score < most or fits[0].renaming == Renaming()):
                continue
            tried = _try(module, candidate, renaming, passed_over)
            if isinstance(tried, Fit):
                if not any(_same(tried, fit) for fit in fits):
                    fits.append(tried)
            elif self._means(candidate, renaming):
                misfits.append(tried)
        return fits

    def put(self, module: nn.Module, fit: Fit, name: str) -> None:
        """Load what :meth:`fit` found, and name once what is left out."""
        _load(module, fit.state)
        if fit.left_out:
            few, more = fit.left_out[:3], len(fit.left_out) - 3
            log.warning(
                "left out of %s, since %s has no such weights: %s",
                self.path,
                name,
                ", ".join(few) + (f" and {more} more" if more > 0 else ""),
            )

    def _means(self, candidate: Candidate, renaming: Renaming) -> bool:
        """Whether the user's key, if there is one, means this."""
        return self._key in ("", candidate.key, _key(candidate, renaming))

    def _no_such_key(self) -> LcamError:
        keys = [candidate.key for candidate in self._candidates]
        return LcamError(
            f"{self.path} has no state dict {self._key!r}",
            "those it has: " + ", ".join(keys[:5]) + (" …" if keys[5:] else ""),
        )

    def _tell(self, name: str, fits: Sequence[Fit]) -> None:
        """Say which of several state dicts is taken."""
        log.warning(
            "%s holds %d state dicts that fit %s (%s): took %s%s; for another: --weights '%s#%s'",
            self.path,
            len(fits),
            name,
            ", ".join(sorted(fit.key for fit in fits[:4])),
            fits[0].key,
            ", which is averaged" if fits[0].is_averaged else "",
            self.path,
            fits[1].key,
        )


def load_weights(module: nn.Module, weights: str, name: str) -> WeightsFile:
    """Put a file's weights into a network that is built already.

    Args:
        module: The network.
        weights: ``FILE`` or ``FILE#KEY``.
        name: What the user calls the network, for messages.

    Returns:
        The file, whose ``identity`` and ``found_at`` tell what was loaded.

    Raises:
        LcamError: The file cannot be read, or nothing in it fits.
    """
    file = WeightsFile(weights)
    file.put(module, file.fit(module, name), name)
    return file


# --- state dicts in a file ------------------------------------------------------------------------


def _candidates(
    content: object, key: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[Candidate]:
    """The dictionaries with tensors in them, outer ones first.

    A small pickle may name the same ones over and over: what is within is looked through once.
    """
    entries = content.entries if isinstance(content, Inert) else content
    seen = set() if seen is None else seen
    known = id(entries) in seen
    seen.add(id(entries))
    if isinstance(entries, list | tuple):
        entries = dict(enumerate(entries)) if len(entries) < _MOST else {}
    if not isinstance(entries, Mapping) or depth > _DEPTH:
        return
    if any(isinstance(v, Tensor) and isinstance(k, str) for k, v in entries.items()):
        yield Candidate(key or TOP, entries)
    if known:
        return
    for name, inner in entries.items():
        if isinstance(inner, Mapping | Inert | list | tuple):
            inside = f"{key}.{name}" if key else str(name)
            yield from _candidates(inner, inside, depth + 1, seen)


def _no_state_dict(path: Path, content: object) -> LcamError:
    """Say what a file holds instead."""
    hint = "save model.state_dict() and give that file"
    entries = _objects(content)
    for key, value in entries.items():
        if value.is_module:
            where = f"{key!r} in {path}" if key else str(path)
            return LcamError(
                f"{where} is a whole network, pickled (class {value.of}): making it would run code",
                "load it where you trust it, and save its state dict: "
                "torch.save(model.state_dict(), 'weights.pt')",
            )
        if value.of.endswith("multiarray._reconstruct"):
            return LcamError(
                f"{path} holds no tensors but NumPy arrays",
                "make tensors of them, torch.from_numpy(array), and save those by torch.save",
            )
        if value.of.endswith("Tensor"):
            what, way_on = object_told(key, value.of)
            return LcamError(f"{path} holds no whole tensors: {what}", way_on)
    if isinstance(content, Mapping):
        return LcamError(f"{path} holds no tensors", hint)
    kind = content.of if isinstance(content, Inert) else type(content).__name__
    return LcamError(f"{path} holds a {kind}, not a state dict", hint)


def _objects(content: object) -> dict[str, Inert]:
    """The objects at the top level, by key, and those in dictionaries there."""
    if isinstance(content, Inert):
        return {"": content}
    top = dict(content) if isinstance(content, Mapping) else {}
    inner = {f"{k}.{j}": w for k, v in top.items() if isinstance(v, Mapping) for j, w in v.items()}
    every = {**{str(k): v for k, v in top.items()}, **inner}
    return {k: v for k, v in every.items() if isinstance(v, Inert)}


def _key(candidate: Candidate, renaming: Renaming) -> str:
    """What tells a state dict within a state dict: ``"state_dict.ema"``."""
    parts = [candidate.key if candidate.key != TOP else "", renaming.off.rstrip(".")]
    return ".".join(part for part in parts if part) or TOP


def _name_them(fits: Sequence[Fit]) -> None:
    """Give each the shortest key that is its own."""
    places = Counter(fit.candidate.key for fit in fits)
    for fit in fits:
        alone = places[fit.candidate.key] == 1
        fit.key = fit.candidate.key if alone else _key(fit.candidate, fit.renaming)


def _same(a: Fit, b: Fit) -> bool:
    """Whether two are the same weights, kept twice."""
    pairs = [(v, b.state.get(k)) for k, v in a.state.items() if isinstance(v, Tensor)]
    return all(isinstance(w, Tensor) and (v is w or _equal(v, w)) for v, w in pairs)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


# --- names ----------------------------------------------------------------------------------------

_Shapes = Mapping[str, tuple[int, ...] | None]


def _shapes_of(module: nn.Module) -> dict[str, tuple[int, ...] | None]:
    """The network's names, and the shapes where they are known."""
    shapes: dict[str, tuple[int, ...] | None] = {}
    for name, value in module.state_dict().items():
        known = isinstance(value, Tensor) and not torch.nn.parameter.is_lazy(value)
        shapes[name] = tuple(value.shape) if known else None
    return shapes


def _likeliest(
    candidates: Sequence[Candidate], own: _Shapes, key: str
) -> Iterator[tuple[Candidate, list[tuple[Renaming, int]]]]:
    """The state dicts worth a trial, in the file's order, each with its renamings, best first.

    The one that the user names is always among them.
    """
    ranked = [(c, _renamings(own, c.shapes)) for c in candidates]
    most = [max(score for _, score in renamings) for _, renamings in ranked]
    places = sorted(range(len(ranked)), key=lambda i: -most[i])[:_MOST]
    worth = {i for i in places if 2 * most[i] >= max(most)}
    worth |= {i for i, candidate in enumerate(candidates) if candidate.key == key}
    yield from (ranked[i] for i in sorted(worth))


def _renamings(own: _Shapes, theirs: _Shapes) -> list[tuple[Renaming, int]]:
    """Ways to name a state dict's entries as the network does, and how many would match.

    The first is to leave them as they are; others follow, those that match the most first.
    """
    found: dict[Renaming, int] = {}
    wrapped = any(_without_wrappers(name) != name for name in (*own, *theirs))
    for bare in (False, True) if wrapped else (False,):
        mine, given = (_bare(own), _bare(theirs)) if bare else (own, theirs)
        for on in common_prefixes(_weights_among(mine)):
            rest = {n.removeprefix(on): shape for n, shape in mine.items() if n.startswith(on)}
            counts: Counter[str] = Counter()
            for key, shape in given.items():
                for cut in _cuts(key):
                    if key[cut:] in rest and _alike(rest[key[cut:]], shape):
                        counts[key[:cut]] += 1
            # Where a network's own hooks rename every entry, nothing matches yet.
            for off in common_prefixes(_weights_among(given)):
                counts[off] += 0
            for off, count in counts.most_common(4):
                found[Renaming(off, on, bare)] = count
    as_is = found.pop(Renaming(), 0)
    return [(Renaming(), as_is), *sorted(found.items(), key=lambda item: -item[1])]


def _weights_among(names: Collection[str]) -> list[str]:
    """The names but for counters and the like, which wrappers add at the top."""
    return [name for name in names if not _LEFTOVER.search(name)] or list(names)


def _bare(names: _Shapes) -> _Shapes:
    return {_without_wrappers(name): shape for name, shape in names.items()}


def _alike(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> bool:
    """Whether two shapes are the same, as far as they are known."""
    return a is None or b is None or a == b or {a, b} == {(), (1,)}


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _cuts(name: str) -> list[int]:
    """Where parts of the name begin."""
    return [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]


def _own_names(own: Collection[str]) -> dict[str, str]:
    """The network's names, and those of its modules, by what they are without wrappers."""
    paths = {_without_wrappers(name[:cut]): name[:cut] for name in own for cut in _cuts(name)[1:]}
    paths = {plain: path.rstrip(".") for plain, path in paths.items()}
    return paths | {_without_wrappers(name): name for name in own}


def _translate(key: str, renaming: Renaming, names: Mapping[str, str]) -> str | None:
    """The network's name for ``key``; None where it is none of its."""
    plain = _without_wrappers(key) if renaming.bare else key
    if not plain.startswith(renaming.off):
        return None
    plain = renaming.on + plain[len(renaming.off) :]
    if not renaming.bare or plain in names:
        return names.get(plain, plain)
    path, _, last = plain.rpartition(".")  # a hook of the module's may know the last part
    return ".".join(part for part in (names.get(path, path), last) if part)


def _renamed(
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
        told = [(_translate(f"{k}.x", renaming, names), v) for k, v in versions.items() if k]
        told.append((f"{renaming.on}x" if not renaming.off else None, versions.get("", {})))
        own_versions = {k.rpartition(".")[0]: v for k, v in told if k is not None}
        renamed._metadata = own_versions  # type: ignore[attr-defined]
    return renamed, others


# --- trials ---------------------------------------------------------------------------------------


def _try(
    module: nn.Module, candidate: Candidate, renaming: Renaming, passed_over: Collection[str]
) -> Fit | Misfit:
    """Let the network say whether it takes the state dict."""
    own = _shapes_of(module)
    state, left_out = _renamed(candidate.state, renaming, own)
    errors, missing, unexpected = _load(module, state)
    shapes = {
        k: (tuple(state[k].shape), own[k])
        for k in own
        if isinstance(state.get(k), Tensor) and not _alike(own[k], tuple(state[k].shape))
    }
    foreign = _foreign(unexpected, own, passed_over)
    lacking = [k for k in missing if not _MADE_BY_NETWORK.search(k)]
    if lacking:
        lacking = _not_tied(module, lacking, state)
    inert = {k: state[k].of for k in own if isinstance(state.get(k), Inert)}
    if errors or lacking or foreign or shapes or inert:
        strange = [k for k in unexpected if not _LEFTOVER.search(k)]
        return Misfit(state, lacking, strange, shapes, errors, inert)
    for k in unexpected:
        state.pop(k, None)
    others = [k for k in unexpected if k.partition(".")[0] not in passed_over]
    return Fit(candidate, renaming, state, left_out + others, missing)


def _load(module: nn.Module, state: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Errors but for shapes, and the names missing and unexpected."""
    try:
        with warnings.catch_warnings():  # that the meta device takes no values
            warnings.simplefilter("ignore")
            told: Any = _strictly_or_not(module, state)
    except Exception as error:  # hooks and load_state_dict of a user's can raise anything
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        errors = [line for line in lines if line and not _COMPARED.match(line)]
        own = module.state_dict()
        return errors, [k for k in own if k not in state], [k for k in state if k not in own]
    return [], list(getattr(told, "missing_keys", [])), list(getattr(told, "unexpected_keys", []))


def _strictly_or_not(module: nn.Module, state: Mapping[str, Any]) -> object:
    """Load with names left to be judged; a network's own method may not know how to."""
    if type(module).load_state_dict is nn.Module.load_state_dict:
        return module.load_state_dict(state, strict=False)
    if "strict" in inspect.signature(module.load_state_dict).parameters:
        told = module.load_state_dict(state, strict=False)
        if hasattr(told, "missing_keys"):
            return told
    return module.load_state_dict(state)


def _foreign(unexpected: Sequence[str], own: _Shapes, passed_over: Collection[str]) -> list[str]:
    """The names that are of a network, but another: those within modules that this one has too.

    A deeper network has all entries of a shallower one. A loss's or an optimiser's have names of
    their own.
    """
    bare = _bare(own)
    return [
        name
        for name in unexpected
        if (_is_beside(name, own) or _is_beside(_without_wrappers(name), bare))
        and name.partition(".")[0] not in passed_over
        and not _LEFTOVER.search(name)
    ]


def _is_beside(name: str, own: _Shapes) -> bool:
    """Whether the network has the module that this entry is within, or one like it: fc1, fc2."""
    prefix = common_prefix(_weights_among(own))
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
