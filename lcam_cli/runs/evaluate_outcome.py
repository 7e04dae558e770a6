"""Scoring the maps of a file, from opening it to the results and the report. Imports torch."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lcam_cli.engine.activation import check_activation
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.identity import Identity
from lcam_cli.engine.probabilities import check_kind
from lcam_cli.errors import LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.hdf5.reader import MapsFile
from lcam_cli.maps.png_reader import open_maps
from lcam_cli.maps.record import MapsInfo
from lcam_cli.measures.evaluate import Evaluation
from lcam_cli.measures.evaluate import evaluate as evaluate_file
from lcam_cli.measures.object_files.read import Run, read_objects
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.task import Task
from lcam_cli.methods.noise import RandomMap
from lcam_cli.methods.registry import is_classless
from lcam_cli.reports.by_class import ByClass
from lcam_cli.reports.gallery import GalleryInfo
from lcam_cli.reports.origin import Origin
from lcam_cli.reports.output import rendered_results
from lcam_cli.reports.per_image import PerImage
from lcam_cli.reports.report import Report
from lcam_cli.reports.results import FLOOR, Results, Row, to_json
from lcam_cli.reports.table import undefined_words
from lcam_cli.runs.backbone import backbone_of_file
from lcam_cli.runs.by_class import by_class_target
from lcam_cli.runs.engine import new_engine
from lcam_cli.runs.evaluate_options import EvaluateOptions
from lcam_cli.runs.flat_maps import warn_of_flat_maps
from lcam_cli.runs.gates import Gates, missed
from lcam_cli.runs.half_precision import COSTS_MEASURES, hint_at_bf16
from lcam_cli.runs.labels import true_classes, warn_of_label_order
from lcam_cli.runs.log import log_to
from lcam_cli.runs.method_of_maps import measures_with_method
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import UnwrittenPageError, write_results, write_text
from lcam_cli.runs.skipped import SkippedPictures
from lcam_cli.runs.stop import Stop


@dataclass(frozen=True)
class EvaluateResult:
    """What became of an evaluation.

    Attributes:
        results: What the measures say; None where the run was stopped.
        missed_gates: A message for every threshold missed.
        skipped: How many inputs were left out.
        skipped_what: What is the matter with them, as the end of a sentence.
        page: The report's page, where one was asked for.
        per_image: The file of every image's numbers, where one was asked for.
    """

    results: Results | None
    missed_gates: tuple[str, ...] = ()
    skipped: int = 0
    skipped_what: str = ""
    page: Path | None = None
    per_image: Path | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped before its end."""
        return self.results is None

    def to_dict(self) -> dict[str, Any] | None:
        """Return the results as plain data, the JSON object ``lcam-results/1``, if any."""
        return None if self.results is None else json.loads(to_json(self.results))


def evaluate(
    maps: Path,
    options: EvaluateOptions,
    gates: Gates,
    readers: int,
    reporter: Reporter,
    stop: Stop,
) -> EvaluateResult:
    """Score the maps; see :func:`~lcam_cli.runs.evaluate.evaluate_maps`."""
    with ExitStack() as held:
        held.enter_context(narrow_pictures.reported_to(reporter.warn))
        held.enter_context(log_to(reporter))
        with open_maps(maps, options.method) as file:
            info = file.info
            if not file.complete:
                reporter.warn(
                    f"{maps} is from an unfinished run: scoring the {len(file)} maps it has"
                )
            network = _backbone(maps, info, options)
            truth = _labels(file, network, options, reporter)
            engine = new_engine(network, options.engine.for_measures(), reporter)
            engine.align = info.align
            pictures = Run.of_rows(
                file.paths(), _root(file, options), options.engine.max_pixels or MAX_PIXELS
            )
            objects = read_objects(options.boxes, options.masks, pictures, network, reporter.warn)
            measures, method = measures_with_method(
                make_measures(options.metrics, objects=objects is not None),
                file,
                options,
                engine,
                readers,
                reporter,
            )
            task = Task(
                file.paths(),
                nus=options.nu,
                measures=measures,
                space=options.mask_space,
                keep=options.keep,
                objects=objects,
            )
            skipped = SkippedPictures(reporter, options.strict)
            methods = [info.method, *([FLOOR] if options.floor else [])]
            gates.check_methods(methods, reporter)
            classes = None
            if options.by_class is not None:
                classes = ByClass(methods, task.quantities, network.class_names, truth)
            gathered = gates.gatherer(methods, task.quantities)
            report = per_image = None
            if options.report is not None:
                floor = 1 if options.floor else None
                origin = Origin(reporter.command, _root(file, options))
                shown = GalleryInfo.of(network, methods, floor, task, truth, origin)
                report = held.enter_context(Report(options.report, "evaluate", shown))
            if options.per_image is not None:
                per_image = held.enter_context(
                    PerImage(options.per_image, methods, task.quantities, task.nus, truth)
                )
            passes = len(file) * (1 + len(options.nu))
            hint_at_bf16(engine, options.engine, passes, COSTS_MEASURES, reporter)
            with reporter.progress(len(file), "evaluate", "maps") as bar:
                outcome = evaluate_file(
                    engine,
                    file,
                    task,
                    images=options.images,
                    method=method,
                    floor=RandomMap(options.seed) if options.floor else None,
                    labels=truth,
                    seed=options.seed,
                    workers=readers,
                    max_pixels=options.engine.max_pixels or MAX_PIXELS,
                    advance=bar.advance,
                    skip=skipped,
                    show=[
                        one.add for one in (report, per_image, gathered, classes) if one is not None
                    ],
                    stop=stop,
                )
        if stop.stopped:
            return EvaluateResult(None)
        results = _results(outcome, info, engine, skipped.count, task, options.per_image)
        results = gates.held(results, gathered, options.seed, reporter)
        _warn(outcome, results, network, reporter)
        for words in () if objects is None else objects.lines():
            reporter.warn(words)
        _write_outputs(results, options, per_image, classes, reporter)
        result = EvaluateResult(
            results, missed(results), skipped.count, skipped.what, per_image=options.per_image
        )
        if report is not None:
            try:
                result = replace(result, page=report.finish(results))
            except LcamError as error:
                raise UnwrittenPageError(error, result) from error
        return result


def _write_outputs(
    results: Results,
    options: EvaluateOptions,
    per_image: PerImage | None,
    classes: ByClass | None,
    reporter: Reporter,
) -> None:
    """Write all files that are wanted, and say where they are."""
    write_results(
        options.results, partial(rendered_results, results, intervals=options.intervals), reporter
    )
    if classes is not None and options.by_class is not None:
        target, format_ = by_class_target(options.by_class)
        write_text(classes.render(format_), target, "--by-class")
        reporter.info(f"the means of each class are in {target}")
    if per_image is not None:
        per_image.finish()
        reporter.info(f"every image's numbers are in {options.per_image}")


def _backbone(maps: Path, info: MapsInfo, options: EvaluateOptions) -> Backbone:
    """Load the backbone that the maps were made with.

    Raises:
        LcamError: An option says other than the file, or it has other classes.
    """
    network = backbone_of_file(
        str(maps),
        Identity(
            info.backbone,
            info.weights,
            info.layer,
            info.weights_file,
            info.grid,
            check_activation(info.activation),
            info.output,
            check_kind(info.probabilities),
        ),
        options.backbone,
        class_names=None,
        preprocess=Preprocess.from_json(info.preprocess),
    )
    if info.classes and options.backbone.classes is None:  # else the user's own names count
        if len(info.classes) != network.num_classes:
            raise LcamError(
                f"{maps} lists {len(info.classes)} classes, but {info.backbone} has "
                f"{network.num_classes}",
                "pass the backbone and weights the maps were made with, or --classes FILE",
            )
        network.class_names = list(info.classes)
    return network


def _root(file: MapsFile, options: EvaluateOptions) -> str:
    """The folder that the images of the rows lie in, absolute."""
    return os.path.abspath(options.images or file.path.parent / file.info.root)  # noqa: PTH100


def _labels(
    file: MapsFile, network: Backbone, options: EvaluateOptions, reporter: Reporter
) -> dict[str, int] | None:
    """Find the true class of every row that has one; None where no labels are given."""
    if options.labels is None:
        return None
    return true_classes(options.labels, file.paths(), network, _root(file, options), reporter)


def _results(
    outcome: Evaluation,
    info: MapsInfo,
    engine: Engine,
    skipped: int,
    task: Task,
    per_image: Path | None,
) -> Results:
    forward_passes = {info.method: info.forward_passes, "random": 0}
    aligned = {info.method: info.aligned, "random": engine.grid is not None}
    return Results(
        backbone=info.backbone,
        weights=info.weights,
        layer=info.layer,
        images=outcome.images,
        skipped=skipped,
        precision=engine.hardware.precision,
        device=engine.hardware.name,
        rows=[
            Row(
                s.name,
                s.scores,
                forward_passes[s.name],
                s.mean_saliency,
                s.images_per_second,
                align=aligned[s.name],
                flat_maps=s.flat_maps,
                tiled=info.tiled if s.name == info.method else None,
                classless=is_classless(s.name),
            )
            for s in outcome.scores
        ],
        mask_space=task.space,
        keep=task.keep,
        measures=task.measures,
        activation=info.activation,
        speed="scored",
        accuracy=outcome.accuracy,
        undefined=outcome.scores[0].undefined,
        per_image="" if per_image is None else per_image.name,
    )


def _warn(outcome: Evaluation, results: Results, network: Backbone, reporter: Reporter) -> None:
    """Say what of the results may surprise."""
    for words in undefined_words(results):
        reporter.warn(words)
    flat = {s.name: (s.flat_maps, s.maps) for s in outcome.scores}
    warn_of_flat_maps(reporter, flat, outcome.scores[0].why_flat)
    warn_of_label_order(outcome.accuracy, network.class_names, reporter)
