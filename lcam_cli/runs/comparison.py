"""What ``lcam compare`` compares, and what it makes of the scores: a table, a figure, a report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import BadImageError
from lcam_cli.images.decoder import read_whole
from lcam_cli.images.find import Found
from lcam_cli.images.preprocess import crop_box
from lcam_cli.maps.hdf5.groups import join_methods
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.paths import stored_path
from lcam_cli.maps.record import why_tiled
from lcam_cli.measures.accuracy import Accuracy
from lcam_cli.measures.compare_pictures import scored_pictures, scored_rows
from lcam_cli.measures.compare_state import CompareState
from lcam_cli.measures.rows import common_pictures, compared_numbers, score_rows, undefined
from lcam_cli.measures.scored import ScoredRows
from lcam_cli.measures.sweep import Candidate
from lcam_cli.measures.task import Task
from lcam_cli.methods.placing import grid_of_maps
from lcam_cli.methods.registry import is_classless
from lcam_cli.reports.by_class import ByClass
from lcam_cli.reports.figure import Example, MethodRow, draw_figure
from lcam_cli.reports.figure_numbers import mean_lines, number_lines, shown_quantities
from lcam_cli.reports.gallery import GalleryInfo
from lcam_cli.reports.origin import Origin
from lcam_cli.reports.per_image import PerImage
from lcam_cli.reports.report import Report
from lcam_cli.reports.results import FLOOR, Results, Row
from lcam_cli.runs.flat_maps import reason_of_picture, warn_of_flat_maps
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import write_text
from lcam_cli.working_folder import absolute


@dataclass
class Comparison:
    """One comparison: the methods, the images, and where finished parts are kept.

    Attributes:
        engine: The engine with the classifier.
        found: The images.
        task: What is scored.
        candidates: The methods, in the order of the rows.
        state: Where finished parts are kept.
        keep_maps: Whether all maps are wanted in the end.
        labels: The true class of each image of the task, None where it is unknown; None where
            nobody asked.
        left_out: Methods of groups that cannot explain the classifier.
    """

    engine: Engine
    found: Found
    task: Task
    candidates: list[Candidate]
    state: CompareState
    keep_maps: bool
    labels: Sequence[int | None] | None = None
    left_out: list[str] = field(default_factory=list)

    @property
    def forward_passes(self) -> int:
        """Forward passes an image: each method's, and one a ν of its map."""
        methods = [candidate.method for candidate in self.candidates]
        return sum(max(1, m.forward_passes) + len(self.task.nus) for m in methods)

    @property
    def is_new(self) -> bool:
        """Whether no earlier run has left anything of it."""
        return not any(self.state.parts(candidate) for candidate in self.candidates)

    def join_maps(self, out: Path) -> None:
        """Bring the maps of all methods together in one file."""
        join_methods(out, {c.name: self.state.maps_path(c) for c in self.candidates})

    def drop_maps(self) -> None:
        """Remove the maps kept so far, once all outputs have been made from them."""
        if self.keep_maps:
            for candidate in self.candidates:
                self.state.maps_path(candidate).unlink()

    def results(self, seed: int) -> Results:
        """Score the rows on the images that all of them have."""
        rows = {candidate.name: candidate.scores for candidate in self.candidates}
        scores = score_rows(rows, self.task, floor=FLOOR, seed=seed)
        passes = {candidate.name: candidate.method.forward_passes for candidate in self.candidates}
        aligned = {c.name: grid_of_maps(self.engine, c.method) is not None for c in self.candidates}
        tiled = {c.name: why_tiled(c.method.params) for c in self.candidates}
        classless = {c.name: is_classless(c.method.name) for c in self.candidates}
        common = common_pictures(list(rows.values()))
        images = int(common.sum())
        identity = self.engine.backbone.identity
        return Results(
            backbone=identity.name,
            weights=identity.weights,
            layer=identity.layer,
            images=images,
            skipped=len(self.task.paths) - images + len(self.found.skipped),
            precision=self.engine.hardware.precision,
            device=self.engine.hardware.name,
            mask_space=self.task.space,
            keep=self.task.keep,
            activation=identity.activation,
            accuracy=self._accuracy(common),
            undefined=undefined(list(rows.values()), self.task),
            measures=self.task.measures,
            rows=[
                Row(
                    s.name,
                    s.scores,
                    passes[s.name],
                    s.mean_saliency,
                    s.images_per_second,
                    aligned[s.name],
                    s.flat_maps,
                    tiled[s.name],
                    classless[s.name],
                )
                for s in scores
            ],
        )

    def warn_of_flat_maps(self, reporter: Reporter, results: Results) -> None:
        """Say in one line which rows have flat maps, and why those of the first have."""
        rows = {candidate.name: candidate for candidate in self.candidates}
        common = common_pictures([candidate.scores for candidate in self.candidates])
        counts = {row.method: (row.flat_maps or 0, self._maps(common)) for row in results.rows}
        why = ""
        for name, (flat, _) in counts.items():
            if flat:
                scores = rows[name].scores
                picture, c = np.argwhere(scores.flat & common[:, None])[0]
                path, class_index = self.task.paths[picture], int(scores.classes[picture, c])
                why = reason_of_picture(self.engine, rows[name].method, path, class_index)
                break
        warn_of_flat_maps(reporter, counts, why)

    def _accuracy(self, common: NDArray[np.bool_]) -> Accuracy | None:
        """How often the classifier is right on the images that all rows have."""
        if self.labels is None:
            return None
        accuracy = Accuracy()
        best = self.candidates[0].scores.best[common]
        accuracy.update(best, [self.labels[i] for i in np.flatnonzero(common).tolist()])
        return accuracy

    def _maps(self, common: NDArray[np.bool_]) -> int:
        """Maps a row that are compared."""
        return int(common.sum()) * self.task.choice.per_picture

    def rows_of_numbers(self) -> Iterator[ScoredRows]:
        """Give every number of the images that all rows have, some images at a time."""
        rows = [candidate.scores for candidate in self.candidates]
        yield from scored_rows(self.task, rows, self.engine.backbone.class_names, self.row_path)

    def write_numbers(self, target: Path) -> None:
        """Write every number of the images that all rows have."""
        names, task, labels = [c.name for c in self.candidates], self.task, self._truth() or {}
        with PerImage(target, names, task.quantities, task.nus, labels) as file:
            for some in self.rows_of_numbers():
                file.add(some)
            file.finish()

    def write_classes(self, target: Path, format_: str) -> None:
        """Write the means of each class over the images that all rows have."""
        classes = ByClass(
            [candidate.name for candidate in self.candidates],
            self.task.quantities,
            self.engine.backbone.class_names,
            self._truth(),
        )
        for some in self.rows_of_numbers():
            classes.add(some)
        write_text(classes.render(format_), target, "--by-class")

    def _truth(self) -> dict[str, int] | None:
        """The true class of each image that has one, by its name in rows; None without labels."""
        if self.labels is None:
            return None
        truth = zip(map(self.row_path, self.task.paths), self.labels, strict=True)
        return {path: label for path, label in truth if label is not None}

    def draw(
        self, target: Path, results: Results, max_pixels: int, methods: Sequence[str] = ()
    ) -> None:
        """Draw the maps of some images that all rows have, and that can still be read.

        Args:
            target: The file.
            results: The rows.
            max_pixels: Images with more are left out.
            methods: Whose maps are drawn; all where none is named.
        """
        common = common_pictures([candidate.scores for candidate in self.candidates])
        examples: dict[int, Example] = {}
        for place, index in enumerate(self.task.shown):
            if common[index]:
                with suppress(BadImageError):
                    examples[place] = self._example(place, max_pixels)
        pictures = np.array([self.task.shown[place] for place in examples], np.int64)
        places = shown_quantities(self.task.quantities)
        measured = [self.task.quantities[k] for k in places]
        rows = [candidate.scores for candidate in self.candidates]
        parts = np.moveaxis(compared_numbers(rows, pictures), 1, 0)
        numbers = self.task.parts.summarise(parts)[places]  # (K, rows, n, C)
        draw_figure(
            target,
            list(examples.values()),
            [
                MethodRow(
                    row.method,
                    candidate.scores.shown[list(examples)].astype(np.float32),
                    mean_lines(measured, row.scores),
                    [
                        [number_lines(measured, one) for one in picture.T]
                        for picture in np.moveaxis(numbers[:, k], 1, 0)
                    ],
                )
                for k, (candidate, row) in enumerate(
                    zip(self.candidates, results.rows, strict=True)
                )
                if not methods or row.method in methods
            ],
        )

    def report(
        self, folder: Path, results: Results, reporter: Reporter, *, workers: int, max_pixels: int
    ) -> Path:
        """Write the report, reading the images and maps once more; return its page."""
        names = [candidate.name for candidate in self.candidates]
        floor = names.index(FLOOR) if FLOOR in names else None
        backbone, task = self.engine.backbone, self.task
        root = os.path.abspath(absolute(self.found.root))  # noqa: PTH100
        origin = Origin(reporter.command, root)
        shown = GalleryInfo.of(backbone, names, floor, task, self._truth() or {}, origin)
        with ExitStack() as stack:
            maps = [
                stack.enter_context(MapsFile(self.state.maps_path(c), trusted=True))
                for c in self.candidates
            ]
            report = stack.enter_context(Report(folder, "compare", shown))
            bar = stack.enter_context(reporter.progress(results.images, "report", "images"))
            for batch in scored_pictures(
                task,
                [candidate.scores for candidate in self.candidates],
                maps,
                backbone.preprocess,
                workers=workers,
                max_pixels=max_pixels,
            ):
                report.add(batch)
                bar.advance(len(batch.paths) // task.choice.per_picture)
            return report.finish(results)

    def _example(self, place: int, max_pixels: int) -> Example:
        index = self.task.shown[place]
        scores = self.candidates[0].scores
        backbone = self.engine.backbone
        preprocess = backbone.preprocess
        picture = read_whole(self.task.paths[index], max_pixels, preprocess)
        return Example(
            picture,
            crop_box(picture.size, preprocess),
            [backbone.class_names[r] for r in scores.classes[index]],
            [float(score) for score in scores.full[index]],
        )

    def row_path(self, path: str) -> str:
        """What an image is called in the rows of maps."""
        return stored_path(path, self.found.root)
