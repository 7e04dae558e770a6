"""The work behind ``lcam compare``: sweeps over the images, shared out between ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.merging import merge
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.record import Shard
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.methods.explain import no_rows
from lcam_cli.runs.compare_plan import Plan, make_plan
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.outputs import maps_info
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.ranks import RESUME, Exit, Ranks


@dataclass(frozen=True)
class CompareRun:
    """A comparison, and who takes part in it.

    Ranks share out the images of every sweep. Each keeps what it has done in the state's folder,
    where the first finds it in the end.

    Attributes:
        comparison: What is compared.
        ranks: Who takes part.
        stop: Asked after every batch; True ends the run.
    """

    comparison: Comparison
    ranks: Ranks
    stop: Callable[[], bool] = lambda: False

    def plan(self, *, resume: bool) -> Plan:
        """Share out what is to be done, the same on all ranks.

        Args:
            resume: Whether what an earlier run left is kept; else it is removed.
        """
        return self.ranks.share(
            lambda: make_plan(self.comparison, self.ranks.info.size, resume=resume)
        )

    def run(
        self,
        plan: Plan,
        reporter: Reporter,
        *,
        workers: int,
        max_pixels: int,
        skip: Callable[[Skipped], None],
    ) -> None:
        """Do this rank's share of the plan; the first waits for the others.

        Raises:
            LcamError: Another rank was lost, or what was done cannot be kept.
            Exit: ``stop`` said so; the parts that were finished are kept.
        """
        ranks = self.ranks
        alone = ranks.info.size == 1
        with ExitStack() as shown:
            if not alone:  # they are not all at the same sweep
                bar = reporter.progress(plan.pictures, "compare", "images")
                ranks.show(shown.enter_context(bar).advance)
            for names, shares in plan.sweeps:
                together = [c for c in self.comparison.candidates if c.name in names]
                mine = shares[ranks.info.rank]
                with ExitStack() as shown_here:
                    if alone:
                        bar = reporter.progress(sum(map(len, mine)), ", ".join(names), "images")
                        ranks.show(shown_here.enter_context(bar).advance)
                    for pictures in mine:
                        self._explain(together, pictures, workers, max_pixels, skip)
            ranks.finish(0)  # what was left out is seen in the scores
            if ranks.is_first:
                ranks.wait_for_others(self.stop)
                self._end_if_asked()

    def collect(self, skip: Callable[[Skipped], None]) -> None:
        """Bring together what all ranks have kept, on the first of them.

        Args:
            skip: Called with each image that a method failed on in a part of which it explained
                nothing, while it explained others.

        Raises:
            LcamError: A part is not there any more.
        """
        state = self.comparison.state
        unreported: list[tuple[Candidate, range, str]] = []
        for candidate in self.comparison.candidates:
            parts = state.parts(candidate)
            failures = {}
            for pictures in parts:
                scores, failed = self._load(candidate, pictures)
                candidate.scores.enter(pictures, scores, self.comparison.task)
                if failed:
                    failures[pictures] = failed
            if not candidate.scores.scored.any():
                candidate.failed = next(iter(failures.values()), "it could not explain any image")
                for pictures in parts:  # to be tried anew
                    state.forget(candidate, pictures)
            elif self.comparison.keep_maps and len(parts) > 1:
                of_parts = [state.maps_path(candidate, part) for part in parts]
                if all(path.exists() for path in of_parts):  # else it was done before
                    merge(state.maps_path(candidate), of_parts)
                for path in of_parts:
                    path.unlink(missing_ok=True)
            if not candidate.failed:
                unreported += [(candidate, pictures, why) for pictures, why in failures.items()]
        readable = np.logical_or.reduce([c.scores.scored for c in self.comparison.candidates])
        for candidate, pictures, why in unreported:
            for i in pictures:
                if readable[i] and not candidate.scores.scored[i]:
                    skip(Skipped(self.comparison.task.paths[i], f"{candidate.name}: {why}"))

    def _explain(
        self,
        together: Sequence[Candidate],
        pictures: range,
        workers: int,
        max_pixels: int,
        skip: Callable[[Skipped], None],
    ) -> None:
        """Explain and score some images with the methods of a sweep, and keep what it gives."""
        what = self.comparison
        size = what.engine.backbone.preprocess.input_shape[1:]
        fresh = [
            Candidate(c.name, c.method, PictureScores.empty(what.task, size)) for c in together
        ]
        with self._written(fresh, pictures):
            sweep(
                what.engine,
                fresh,
                what.task,
                workers=workers,
                pictures=pictures,
                max_pixels=max_pixels,
                row_path=what.row_path,
                advance=self._advance,
                skip=skip,
            )
        for candidate in fresh:
            what.state.save(candidate, pictures, candidate.scores, candidate.failed)

    def _advance(self, done: int) -> None:
        self.ranks.advance(done)
        if self.ranks.lost:
            raise LcamError(self.ranks.lost, RESUME)
        self._end_if_asked()

    def _end_if_asked(self) -> None:
        if self.stop():
            raise Exit

    @contextmanager
    def _written(self, together: Sequence[Candidate], pictures: range) -> Iterator[None]:
        """Write the maps of a sweep, a file a method, where they are wanted."""
        what = self.comparison
        if not what.keep_maps:
            yield
            return
        backbone, names = what.engine.backbone, [what.row_path(p) for p in what.task.paths]
        # Known before any image is read; they come with the first part.
        unread = what.found.skipped if pictures.start == 0 else []
        capacity = Capacity.of(
            [*names[pictures.start : pictures.stop], *(s.path for s in unread)],
            backbone.class_names,
            classes_per_picture=what.task.choice.per_picture,
        )
        part = None
        if len(pictures) < len(names):
            part = Shard.of(pictures, names, repr(what.task.choice))
        size = backbone.preprocess.input_shape[1:]
        with ExitStack() as stack:
            writers = []
            for candidate in together:
                info = maps_info(what.engine, candidate.method, what.found.root, what.task.choice)
                info = replace(info, shard=part)
                path = what.state.maps_path(candidate, pictures)
                writer = Hdf5Writer(path, info, size=size, capacity=capacity, overwrite=True)
                writers.append(stack.enter_context(writer))
                candidate.write = writer.append
            yield
            for writer, candidate in zip(writers, together, strict=True):
                lost = [Skipped(what.row_path(s.path), s.reason) for s in candidate.lost]
                writer.append(no_rows(what.engine, unread + lost))
                writer.finish()

    def _load(self, candidate: Candidate, pictures: range) -> tuple[PictureScores, str]:
        found = self.comparison.state.load(candidate, pictures)
        if found is None:
            raise LcamError(
                f"images {pictures.start} to {pictures.stop} of {candidate.name} can no longer "
                f"be read in {self.comparison.state.folder}",
                RESUME,
            )
        return found
