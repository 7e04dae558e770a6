"""The work behind ``lcam compare``: sweeps over the pictures, shared out between ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.merging import merge
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.record import Shard
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.sweep import Candidate, sweep, sweep_batch
from lcam_cli.methods.explain import no_rows
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.outputs import maps_info
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.ranks import RESUME, Ranks
from lcam_cli.scale.shares import gaps_between, share_out


@dataclass(frozen=True)
class Plan:
    """What is to be done, and by whom.

    Attributes:
        taken: The methods that an earlier run finished.
        sweeps: The names of the methods of each sweep, and by rank the pictures it takes.
    """

    taken: list[str]
    sweeps: list[tuple[list[str], list[list[range]]]]

    @property
    def pictures(self) -> int:
        """How many pictures are read in all sweeps together."""
        return sum(len(part) for _, shares in self.sweeps for share in shares for part in share)


@dataclass(frozen=True)
class CompareRun:
    """A comparison, and who takes part in it.

    Ranks share out the pictures of every sweep. Each keeps what it has done in the state's folder,
    where the first finds it in the end.

    Attributes:
        comparison: What is compared.
        ranks: Who takes part.
    """

    comparison: Comparison
    ranks: Ranks

    def plan(self, *, resume: bool) -> Plan:
        """Share out what is to be done, the same on all ranks.

        Args:
            resume: Whether what an earlier run left is kept; else it is removed.
        """
        return self.ranks.share(lambda: self._plan(resume))

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
        """
        ranks = self.ranks
        alone = ranks.info.size == 1
        with ExitStack() as shown:
            if not alone:  # they are not all at the same sweep
                bar = reporter.progress(plan.pictures, "compare", "images")
                ranks.show(shown.enter_context(bar).advance)
            for names, shares in plan.sweeps:
                together = [e for e in self.comparison.candidates if e.name in names]
                mine = shares[ranks.info.rank]
                with ExitStack() as shown_here:
                    if alone:
                        bar = reporter.progress(sum(map(len, mine)), ", ".join(names), "images")
                        ranks.show(shown_here.enter_context(bar).advance)
                    for pictures in mine:
                        self._explain(together, pictures, workers, max_pixels, skip)
            ranks.finish(0)  # what was left out is seen in the scores
            if ranks.is_first:
                ranks.wait_for_others(lambda: False)

    def collect(self, skip: Callable[[Skipped], None]) -> None:
        """Bring together what all ranks have kept, on the first of them.

        Args:
            skip: Called with each picture that a method failed on in a part of which it explained
                nothing, while it explained others.

        Raises:
            LcamError: A part is not there any more.
        """
        state = self.comparison.state
        untold: list[tuple[Candidate, range, str]] = []
        for candidate in self.comparison.candidates:
            parts = state.parts(candidate)
            failures = {}
            for pictures in parts:
                scores, failed = self._load(candidate, pictures)
                candidate.scores.enter(pictures, scores, self.comparison.task)
                if failed:
                    failures[pictures] = failed
            if not candidate.scores.scored.any():
                candidate.failed = next(iter(failures.values()), "it explained no picture")
                for pictures in parts:  # to be tried anew
                    state.forget(candidate, pictures)
            elif self.comparison.keep_maps and len(parts) > 1:
                of_parts = [state.maps_path(candidate, part) for part in parts]
                if all(path.exists() for path in of_parts):  # else it was done before
                    merge(state.maps_path(candidate), of_parts)
                for path in of_parts:
                    path.unlink(missing_ok=True)
            if not candidate.failed:
                untold += [(candidate, pictures, why) for pictures, why in failures.items()]
        readable = np.logical_or.reduce([e.scores.scored for e in self.comparison.candidates])
        for candidate, pictures, why in untold:
            for i in pictures:
                if readable[i] and not candidate.scores.scored[i]:
                    skip(Skipped(self.comparison.task.paths[i], f"{candidate.name}: {why}"))

    def _plan(self, resume: bool) -> Plan:
        kept = {e.name: self._kept(e, resume) for e in self.comparison.candidates}
        every = len(self.comparison.task.paths)
        taken = [name for name, parts in kept.items() if not gaps_between(parts, every)]
        sweeps = list(_sweeps([e for e in self.comparison.candidates if e.name not in taken]))
        batches = [sweep_batch(self.comparison.engine, together) for together in sweeps]
        # So that a rank takes the same pictures in every sweep.
        unit = math.lcm(*batches)
        shares = []
        for together, batch in zip(sweeps, batches, strict=True):
            done = self._in_common(together, kept, batch)
            parts = share_out(gaps_between(done, every), unit, self.ranks.info.size)
            shares.append(([candidate.name for candidate in together], parts))
        return Plan(taken, shares)

    def _kept(self, candidate: Candidate, resume: bool) -> list[range]:
        """Return the parts of a method that stay, in order; remove what else there is."""
        kept: list[range] = []
        for pictures in self.comparison.state.parts(candidate):
            found = self.comparison.state.load(candidate, pictures) if resume else None
            stays = (
                found is not None
                and not found[1]
                and pictures.start >= (kept[-1].stop if kept else 0)
                and (not self.comparison.keep_maps or self._has_maps(candidate, pictures))
            )
            if stays:
                kept.append(pictures)
            else:
                self.comparison.state.forget(candidate, pictures)
        return kept

    def _in_common(
        self, together: Sequence[Candidate], kept: dict[str, list[range]], batch: int
    ) -> list[range]:
        """Return the parts that no method of a sweep has still to do; remove all others.

        Args:
            together: The methods.
            kept: The parts of each.
            batch: Pictures a batch of this sweep; it may have been another one.
        """
        every = len(self.comparison.task.paths)
        done = [
            part
            for part in kept[together[0].name]
            if all(part in kept[candidate.name] for candidate in together)
            and part.start % batch == 0
            and (part.stop % batch == 0 or part.stop == every)
        ]
        for candidate in together:
            for part in kept[candidate.name]:
                if part not in done:
                    self.comparison.state.forget(candidate, part)
        return done

    def _explain(
        self,
        together: Sequence[Candidate],
        pictures: range,
        workers: int,
        max_pixels: int,
        skip: Callable[[Skipped], None],
    ) -> None:
        """Explain and score some pictures with the methods of a sweep, and keep what it gives."""
        what = self.comparison
        side = what.engine.backbone.preprocess.image_size
        fresh = [
            Candidate(e.name, e.method, PictureScores.empty(what.task, side)) for e in together
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

    @contextmanager
    def _written(self, together: Sequence[Candidate], pictures: range) -> Iterator[None]:
        """Write the maps of a sweep, a file a method, where they are wanted."""
        what = self.comparison
        if not what.keep_maps:
            yield
            return
        backbone, names = what.engine.backbone, [what.row_path(p) for p in what.task.paths]
        # Known before any picture is read; they come with the first part.
        unread = what.found.skipped if pictures.start == 0 else []
        capacity = Capacity.of(
            [*names[pictures.start : pictures.stop], *(s.path for s in unread)],
            backbone.class_names,
            classes_per_picture=what.task.choice.per_picture,
        )
        part = None
        if len(pictures) < len(names):
            part = Shard.of(pictures, names, repr(what.task.choice))
        side = backbone.preprocess.image_size
        with ExitStack() as stack:
            writers = []
            for candidate in together:
                info = maps_info(backbone, candidate.method, what.found.root, what.task.choice)
                info = replace(info, shard=part)
                path = what.state.maps_path(candidate, pictures)
                writer = Hdf5Writer(
                    path, info, size=(side, side), capacity=capacity, overwrite=True
                )
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
                f"pictures {pictures.start} to {pictures.stop} of {candidate.name} cannot be read "
                f"any more in {self.comparison.state.folder}",
                RESUME,
            )
        return found

    def _has_maps(self, candidate: Candidate, pictures: range | None = None) -> bool:
        """Whether the maps of a part are there, by themselves or in the file of all pictures."""
        state = self.comparison.state
        for path in {state.maps_path(candidate, pictures), state.maps_path(candidate)}:
            with suppress(LcamError), MapsFile(path, trusted=True) as maps:
                if maps.complete:
                    return True
        return False


def _sweeps(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """All methods of one forward pass together, then the others, each by itself."""
    quick = [candidate for candidate in candidates if candidate.method.forward_passes <= 1]
    if quick:
        yield quick
    yield from ([candidate] for candidate in candidates if candidate not in quick)
