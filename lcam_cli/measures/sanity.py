"""Whether maps are of this network at all: do they change when its weights are drawn anew?

Adebayo et al.: Sanity Checks for Saliency Maps, NeurIPS 2018 (the model parameter randomisation
test, cascading); by Spearman's rank correlation of whole maps, as in Quantus (Hedström et al., JMLR
2023). A batch of images goes through all stages before the next is read, so memory does not grow
with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.images.shown import as_rgb
from lcam_cli.images.stream import Batch, stream_batches
from lcam_cli.measures.rank_correlation import correlation_of_ranks, ranks
from lcam_cli.measures.redrawn_methods import RedrawnMethods
from lcam_cli.measures.similarity import Outcome, SanityNumbers, ShownPicture
from lcam_cli.methods.base import Method, flat_maps
from lcam_cli.methods.explain import no_numbers, not_numbers
from lcam_cli.methods.lent import NetworkChangedError
from lcam_cli.methods.run import run_method, why_failed


def check_sanity(
    methods: RedrawnMethods,
    paths: Sequence[str],
    *,
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    shown: int = 0,
    advance: Callable[[int], None] = lambda _maps: None,
    skip: Callable[[Skipped], None] = lambda _skipped: None,
    stop: Callable[[], bool] = lambda: False,
) -> SanityNumbers:
    """Compare maps of the predicted class with those that random weights give.

    The network has its own weights again in the end, however it ends.

    Args:
        methods: The methods and their network.
        paths: The images.
        workers: Processes that read images.
        max_pixels: Images with more are skipped.
        shown: Of so many images the maps are kept for a figure.
        advance: Called with the maps made, a method and stage at a time.
        skip: Called with each image that cannot be read, or whose scores are not numbers.
        stop: Asked after every method and stage; True ends the run with what has been found.

    Raises:
        LcamError: No image can be read, or has scores that are numbers.
    """
    engine = methods.engine
    found = SanityNumbers.empty(methods.names, methods.stages, len(paths))
    maps_of_picture = maps_a_picture(methods)
    lost: list[Skipped] = []
    stream = stream_batches(
        paths,
        engine.backbone.preprocess,
        methods.pictures_at_once,
        workers=workers,
        max_pixels=max_pixels,
    )
    try:
        for read in stream:
            for skipped in read.skipped:
                skip(skipped)
            batch, without = _with_numbers(methods, read, paths)
            lost += without
            advance((len(read.skipped) + len(without)) * maps_of_picture)
            if batch is not None:
                _Comparison(methods, batch, found, shown).run(advance, stop)
            if found.images:  # where no image has numbers, that is said once
                for skipped in lost:
                    skip(skipped)
                lost.clear()
            if stop():
                return found
    finally:
        methods.cascade.draw(0)
    if not found.images:
        if lost:
            raise no_numbers(len(lost), engine.hardware.precision)
        raise LcamError(f"none of the {len(paths)} images could be read", "check the images")
    return found


def maps_a_picture(methods: RedrawnMethods) -> int:
    """How many maps are made of an image."""
    columns = 1 + methods.stages + _has_second(methods.engine)
    return len(methods.names) * columns


def _has_second(engine: Engine) -> bool:
    return engine.backbone.num_classes > 1


@dataclass(frozen=True)
class _Pictures:
    """A batch of B images, and what the network as trained says of them."""

    read: Batch
    forward: Forward
    classes: Tensor  # (B, 2): the best class and the second; (B, 1) where there is but one


def _with_numbers(
    methods: RedrawnMethods, read: Batch, paths: Sequence[str]
) -> tuple[_Pictures | None, list[Skipped]]:
    """The images whose scores are numbers on the network as trained, and the others."""
    if not read.indices:
        return None, []
    engine = methods.engine
    x = engine.pixels(read.images)
    methods.at(0)
    forward = engine.forward(x)
    finite = forward.finite.cpu().numpy()
    lost = [Skipped(paths[i], not_numbers(engine)) for i in compress(read.indices, ~finite)]
    if not finite.any():
        return None, lost
    if lost:
        read = read.only(np.flatnonzero(finite).tolist(), [])
        forward = forward.only(forward.finite)
    best = forward.logits.topk(1 + _has_second(engine), 1).indices
    return _Pictures(read, forward, best), lost


@dataclass(frozen=True)
class _Ranked:
    """Maps of a batch, ready to be compared: ranks (B, H·W), and what came of each, (B,)."""

    ranks: Tensor
    outcomes: Tensor

    @classmethod
    def of(cls, V: Tensor) -> _Ranked:
        if V.device.type == "mps":  # which has no float64
            V = V.cpu()
        failed = ~V.isfinite().flatten(1).all(1)
        outcomes = torch.where(failed, int(Outcome.FAILED), flat_maps(V).int())
        return cls(ranks(V.flatten(1).nan_to_num()), outcomes)


class _Comparison:
    """One batch of images, through all stages."""

    def __init__(
        self, methods: RedrawnMethods, pictures: _Pictures, found: SanityNumbers, shown: int
    ) -> None:
        self._methods, self._pictures, self._found = methods, pictures, found
        self._first: dict[str, _Ranked] = {}
        engine = methods.engine
        count = min(len(pictures.read.indices), shown - len(found.shown))
        scores = pictures.forward.confidence(pictures.classes[:, 0])
        size = pictures.read.images.shape[1:3]
        self._shown = [
            ShownPicture(
                as_rgb(pictures.read.images[k]),
                int(pictures.classes[k, 0]),
                float(scores[k]),
                {
                    name: np.full((methods.stages + 2, *size), np.nan, np.float16)
                    for name in methods.names
                },
            )
            for k in range(count)
        ]
        self._engine = engine

    def run(self, advance: Callable[[int], None], stop: Callable[[], bool]) -> None:
        """Explain and compare; a batch that is stopped is not entered as explained."""
        best, *second = self._pictures.classes.unbind(1)
        x, trained = self._pictures.forward.x, self._pictures.forward
        last = self._methods.stages
        # The second-best class comes with the network as trained, before any weights are drawn.
        plan = [(0, 0, best), *((0, last + 1, one) for one in second)]
        plan += [(stage, stage, best) for stage in range(1, last + 1)]
        forward, at = trained, 0
        for stage, row, classes in plan:
            methods = self._methods.at(stage)
            if stage != at:
                forward, at = self._engine.forward(x), stage
            for name, method in methods.items():
                V = self._explain(name, method, forward, classes.contiguous(), stage)
                self._enter(name, row, V)
                advance(len(x))
                if stop():
                    return
        self._found.explained[self._pictures.read.indices] = True
        self._found.shown += self._shown

    def _explain(
        self, name: str, method: Method | None, forward: Forward, classes: Tensor, stage: int
    ) -> Tensor:
        """V (B, H, W); NaN where there is none."""
        nothing = torch.full_like(forward.x[:, 0], torch.nan)
        if method is None:
            return nothing
        try:
            checked = run_method(self._engine, method, forward, classes)
            checked.check_range()
        except NetworkChangedError:
            raise
        except Exception as error:  # a method may be anybody's: one image must not end the run
            if len(classes) == 1:
                if stage == 0:
                    self._found.failures.setdefault(name, why_failed(error, name))
                return nothing
            rows = (slice(i, i + 1) for i in range(len(classes)))
            return torch.cat(
                [self._explain(name, method, forward.only(i), classes[i], stage) for i in rows]
            )
        V = checked.maps.saliency
        return torch.where(forward.finite[:, None, None], V, torch.nan)

    def _enter(self, name: str, row: int, V: Tensor) -> None:
        """Compare maps with the first ones; row 0 is these themselves."""
        for k, picture in enumerate(self._shown):
            picture.maps[name][row] = V[k].cpu().numpy()
        ranked = _Ranked.of(V)
        m = self._found.methods.index(name)
        if row == 0:
            self._first[name] = ranked
            self._found.explains[m] |= bool((ranked.outcomes != Outcome.FAILED).any())
            return
        first = self._first[name]
        outcomes = torch.maximum(first.outcomes, ranked.outcomes)
        rho = correlation_of_ranks(first.ranks, ranked.ranks)
        rho = torch.where(outcomes == Outcome.NUMBER, rho, torch.nan)
        at = (m, row - 1, self._pictures.read.indices)
        self._found.rho[at] = rho.cpu().numpy()
        self._found.outcomes[at] = outcomes.cpu().numpy()
