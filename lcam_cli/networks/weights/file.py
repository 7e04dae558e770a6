"""Putting a file's weights into a network: whatever ``load_state_dict`` would take is taken.

A file may hold several state dicts (``weights.state_dicts``), and their names may be wrapped
(``weights.renaming``). Which of them is meant, and what of its names comes off, is judged by the
network alone (``weights.fitting``).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch import nn

from lcam_cli.errors import LcamError
from lcam_cli.networks.weights.checkpoint import read_content, sha256_of_file
from lcam_cli.networks.weights.differences import Mismatch, mismatch_error
from lcam_cli.networks.weights.file_kinds import check_is_file
from lcam_cli.networks.weights.fitting import (
    Fit,
    can_be_handed_over,
    load,
    named_averaged,
    same_weights,
    try_loading,
)
from lcam_cli.networks.weights.renaming import (
    Renaming,
    Shapes,
    find_renamings,
    key_within,
    renamed_state,
    shapes_of,
)
from lcam_cli.networks.weights.state_dicts import (
    Candidate,
    find_candidates,
    no_state_dict,
    split_key,
)

log = logging.getLogger("lcam")

_MOMENTS = re.compile(r"(?i)optim|grad|moment|exp_avg")
_MOST = 64  # state dicts that are tried


class WeightsFile:
    """A file of weights, read once, to be put into a network.

    Args:
        weights: ``FILE``, or ``FILE#KEY`` for one of several state dicts in it.

    Attributes:
        path: The file.
        found_at: The file's whole path, with the key where there is one, to find it again.

    Raises:
        LcamError: The file cannot be read, is no weights file, would run code, or holds no tensors.
    """

    def __init__(self, weights: str) -> None:
        self.path, self._key = split_key(weights)
        check_is_file(self.path)
        self.found_at = f"{self.path.resolve()}{'#' if self._key else ''}{self._key}"
        # Its hash takes as long as reading it and building the network.
        pool = ThreadPoolExecutor(1, thread_name_prefix="lcam-hash")
        self._sha256 = pool.submit(sha256_of_file, self.path)
        pool.shutdown(wait=False)
        try:
            content = read_content(self.path)
        except LcamError:
            self._sha256.result()  # where the system refuses, that is the reason
            raise
        self._marked = ""
        self._candidates = list(find_candidates(content))
        if not self._candidates:
            raise no_state_dict(self.path, content)

    @property
    def identity(self) -> str:
        """``"sha256:…"`` of the file; of it and the key, where several of its state dicts fit.

        It waits for the hash, which another thread makes.

        Raises:
            LcamError: The file cannot be read.
        """
        sha256 = self._sha256.result()
        if not self._marked:
            return sha256
        return "sha256:" + hashlib.sha256(f"{sha256}{self._marked}".encode()).hexdigest()

    def named_for(self, module: nn.Module) -> dict[str, Any]:
        """The entries of the likeliest state dict, as ``module`` names them.

        Only names are judged: the file may be of a network with another number of classes.
        """
        names: dict[str, None] = dict.fromkeys(shapes_of(module))
        best: dict[str, Any] = {}
        most = -1
        for candidate in self._candidates:
            for renaming, _ in find_renamings(names, dict.fromkeys(candidate.shapes)):
                if not self._means(candidate, renaming):
                    continue
                state, _ = renamed_state(candidate.state, renaming, names)
                score = 2 * sum(name in names for name in state)
                score += named_averaged(candidate, renaming)
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
        mismatches: list[Mismatch] = []
        for candidate, renamings in _likeliest(self._candidates, shapes_of(module), self._key):
            found = self._first_fits(module, candidate, renamings, passed_over, mismatches)
            fits += [fit for fit in found if not any(same_weights(fit, other) for other in fits)]
        _name_keys(fits)
        fits.sort(key=lambda fit: (bool(_MOMENTS.search(fit.key)), not fit.is_averaged))
        chosen = [fit for fit in fits if self._means(fit.candidate, fit.renaming)]
        if not chosen:
            if not mismatches:
                raise self._no_such_key()
            raise mismatch_error(str(self.path), name, module, min(mismatches, key=Mismatch.size))
        if len(fits) > 1:
            if len(chosen) > 1:
                self._warn_of_several(name, chosen)
            self._marked = f"#{chosen[0].key}"
            self.found_at = f"{self.path.resolve()}#{chosen[0].key}"
        return chosen[0]

    def _first_fits(
        self,
        module: nn.Module,
        candidate: Candidate,
        renamings: Sequence[tuple[Renaming, int]],
        passed_over: Collection[str],
        mismatches: list[Mismatch],
    ) -> list[Fit]:
        """The renamings by which one state dict fits; how others differ is added to ``mismatches``.

        What fits as it is is taken as it is, and wrappers inside names are passed over only where
        they are in the way. Renamings by which little matches are for networks that rename entries
        by hooks of their own.
        """
        most = max(score for _, score in renamings)
        fits: list[Fit] = []
        for renaming, score in sorted(renamings, key=lambda r: r[0] != Renaming()):
            if fits and (renaming.bare or 2 * score < most or fits[0].renaming == Renaming()):
                continue
            tried = try_loading(module, candidate, renaming, passed_over)
            if isinstance(tried, Fit):
                if not any(same_weights(tried, fit) for fit in fits):
                    fits.append(tried)
            elif self._means(candidate, renaming):
                mismatches.append(tried)
        return fits

    def load_into(self, module: nn.Module, fit: Fit, name: str, *, hand_over: bool = False) -> None:
        """Load what :meth:`fit` found, and name once what is left out.

        Args:
            module: The network.
            fit: What :meth:`fit` found.
            name: What the user calls it.
            hand_over: Whether the network may take the file's tensors for its own where they are
                what it would make of them: the file is of no further use then.
        """
        load(module, fit.state, hand_over=hand_over and can_be_handed_over(module, fit.state))
        if fit.left_out:
            few, more = fit.left_out[:3], len(fit.left_out) - 3
            log.warning(
                "ignored in %s, because %s has no such weights: %s",
                self.path,
                name,
                ", ".join(few) + (f" and {more} more" if more > 0 else ""),
            )

    def _means(self, candidate: Candidate, renaming: Renaming) -> bool:
        """Whether the user's key, if there is one, means this."""
        return self._key in ("", candidate.key, key_within(candidate, renaming))

    def _no_such_key(self) -> LcamError:
        keys = [candidate.key for candidate in self._candidates]
        return LcamError(
            f"{self.path} has no state dict {self._key!r}",
            "those it has: " + ", ".join(keys[:5]) + (" …" if keys[5:] else ""),
        )

    def _warn_of_several(self, name: str, fits: Sequence[Fit]) -> None:
        """Say which of several state dicts is taken."""
        log.warning(
            "%s holds %d state dicts that fit %s (%s): using %s%s; for another, pass --weights "
            "'%s#%s'",
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
    file.load_into(module, file.fit(module, name), name)
    return file


def _likeliest(
    candidates: Sequence[Candidate], own: Shapes, key: str
) -> Iterator[tuple[Candidate, list[tuple[Renaming, int]]]]:
    """The state dicts worth trying, in the file's order, each with its renamings, best first.

    The one that the user names is always among them.
    """
    ranked = [(c, find_renamings(own, c.shapes)) for c in candidates]
    most = [max(score for _, score in renamings) for _, renamings in ranked]
    places = sorted(range(len(ranked)), key=lambda i: -most[i])[:_MOST]
    worth = {i for i in places if 2 * most[i] >= max(most)}
    worth |= {i for i, candidate in enumerate(candidates) if candidate.key == key}
    yield from (ranked[i] for i in sorted(worth))


def _name_keys(fits: Sequence[Fit]) -> None:
    """Give each the shortest key that is its own."""
    places = Counter(fit.candidate.key for fit in fits)
    for fit in fits:
        alone = places[fit.candidate.key] == 1
        fit.key = fit.candidate.key if alone else key_within(fit.candidate, fit.renaming)
