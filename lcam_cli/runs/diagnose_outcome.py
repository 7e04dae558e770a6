"""A diagnosis from its beginning to its result, figure and page. Imports torch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.marks import mark_figure
from lcam_cli.maps.paths import stored_path
from lcam_cli.maps.record import why_tiled
from lcam_cli.measures.diagnose import Diagnosis, ExplainedMistake
from lcam_cli.measures.diagnose import diagnose as diagnose_pictures
from lcam_cli.measures.labels import labels_of_files
from lcam_cli.methods.base import Method
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import is_of_pixels, make_method
from lcam_cli.reports.diagnosis import (
    TEXT_FORMATS,
    DiagnosisReport,
    disagreement,
    to_json,
    to_rich,
)
from lcam_cli.reports.diagnosis_figure import WorstMistakes, draw_diagnosis
from lcam_cli.reports.diagnosis_page import DiagnosisPage
from lcam_cli.reports.origin import Origin
from lcam_cli.reports.output import rendered
from lcam_cli.runs.diagnose_options import AUTO, NONE, DiagnoseOptions
from lcam_cli.runs.engine import new_engine, place_maps
from lcam_cli.runs.flat_maps import warn_of_flat_maps
from lcam_cli.runs.log import log_to
from lcam_cli.runs.method import backbone_and_method
from lcam_cli.runs.pictures import find_pictures
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import write_results
from lcam_cli.runs.skipped import SkippedPictures
from lcam_cli.runs.stop import Stop
from lcam_cli.working_folder import absolute

_SECOND_METHODS = ("gradcam", "gradcam++")


@dataclass(frozen=True)
class DiagnoseResult:
    """What became of a diagnosis.

    Attributes:
        results: What was found; None where the run was stopped.
        skipped: How many inputs were left out.
        skipped_what: What is the matter with them, as the end of a sentence.
        page: The report's page, where one was asked for.
    """

    results: DiagnosisReport | None
    skipped: int = 0
    skipped_what: str = ""
    page: Path | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped before its end."""
        return self.results is None

    def to_dict(self) -> dict[str, Any] | None:
        """Return the results as plain data, the JSON object ``lcam-diagnosis/1``, if any."""
        return None if self.results is None else json.loads(to_json(self.results))


def diagnose(
    inputs: Sequence[str],
    labels: str,
    options: DiagnoseOptions,
    readers: int,
    reporter: Reporter,
    stop: Stop,
) -> DiagnoseResult:
    """Diagnose errors; see :func:`~lcam_cli.runs.diagnose.diagnose_folder`."""
    with ExitStack() as held:
        held.enter_context(narrow_pictures.reported_to(reporter.warn))
        held.enter_context(log_to(reporter))
        network, method = backbone_and_method(
            options.method,
            options.attention,
            options.backbone,
            MethodOptions(options.seed),
            reporter,
        )
        found = find_pictures(inputs, options.pictures, reporter, options.seed)
        truth = labels_of_files(labels, found.paths, found.root, network, reporter.warn)
        labelled = [path for path in found.paths if path in truth]
        unlabelled = len(found.paths) - len(labelled)
        engine = new_engine(network, options.engine.for_measures(), reporter)
        place_maps(engine, [method], options.align, reporter)
        if unlabelled:
            reporter.warn(f"{unlabelled} images have no label in {labels}: they are skipped")
        skipped = SkippedPictures(reporter, options.pictures.strict)
        for item in found.skipped:
            skipped(item)
        worst = WorstMistakes()
        second = _second_method(options, method, network)
        if second is not None:
            place_maps(engine, [second], options.align, Reporter())
        page = None
        if options.report is not None:
            root = os.path.abspath(absolute(found.root))  # noqa: PTH100
            page = DiagnosisPage(
                options.report,
                network.preprocess.input_shape[1:],
                Origin(reporter.command, root),
                of_pixels=is_of_pixels(method.name),
            )

        def show(shown: ExplainedMistake) -> None:
            worst.add(shown)
            if page is not None:
                page.add(shown)

        with reporter.progress(len(labelled), "diagnose", "images") as progress:
            diagnosis = diagnose_pictures(
                engine,
                method,
                labelled,
                [truth[path] for path in labelled],
                second=second,
                rules=options.rules,
                workers=readers,
                max_pixels=options.engine.max_pixels or MAX_PIXELS,
                row_path=lambda path: stored_path(path, found.root),
                show=show,
                advance=progress.advance,
                skip=skipped,
                stop=stop,
            )
        if stop.stopped:
            return DiagnoseResult(None)
        _warn(diagnosis, method, engine, reporter)
        results = _results(diagnosis, method, second, engine, options, skipped.count, unlabelled)
        if words := disagreement(results):
            reporter.warn(words)
        if options.figure is not None:
            _draw(options.figure, worst, results, found.root, reporter)
        written = None
        if page is not None:
            written = page.finish(results)
            reporter.info(f"wrote every misclassified image to {written}")
        write_results(options.results, partial(rendered, TEXT_FORMATS, to_rich, results), reporter)
        return DiagnoseResult(results, skipped.count, skipped.what, written)


def _warn(diagnosis: Diagnosis, method: Method, engine: Engine, reporter: Reporter) -> None:
    """Say what of the diagnosis may surprise."""
    maps = 2 * len(diagnosis.mistakes)
    warn_of_flat_maps(reporter, {method.name: (diagnosis.flat_maps, maps)}, diagnosis.why_flat)
    if other_order := diagnosis.order.warning(engine.backbone.class_names):
        reporter.warn(other_order)


def _second_method(options: DiagnoseOptions, method: Method, network: Backbone) -> Method | None:
    """The method that sorts the errors once more, if there is one.

    Raises:
        LcamError: The one that was named does not exist, or cannot explain this classifier.
    """
    name = options.second_method
    if name == NONE:
        return None
    if name != AUTO:
        return make_method(name, network, options=MethodOptions(options.seed))
    # They need one backward pass, which those of the first method serve where it has some.
    name = next(name for name in _SECOND_METHODS if name != method.name)
    with suppress(LcamError):  # this classifier has no gradients
        return make_method(name, network, options=MethodOptions(options.seed))
    return None


def _results(
    diagnosis: Diagnosis,
    method: Method,
    second: Method | None,
    engine: Engine,
    options: DiagnoseOptions,
    skipped: int,
    unlabelled: int,
) -> DiagnosisReport:
    identity = engine.backbone.identity
    return DiagnosisReport(
        backbone=identity.name,
        weights=identity.weights,
        layer=identity.layer,
        method=method.name,
        class_names=engine.backbone.class_names,
        rules=options.rules,
        diagnosis=diagnosis,
        skipped=skipped,
        unlabelled=unlabelled,
        precision=engine.hardware.precision,
        device=engine.hardware.name,
        tiled=why_tiled(method.params),
        second_method="" if second is None else second.name,
    )


def _draw(
    figure: Path, worst: WorstMistakes, results: DiagnosisReport, root: str, reporter: Reporter
) -> None:
    if not results.diagnosis.mistakes:
        reporter.warn(f"nothing to draw in {figure}")
        return
    of_pixels = is_of_pixels(results.method)
    draw_diagnosis(figure, worst, results.class_names, of_pixels=of_pixels)
    mark_figure(figure, root)
    reporter.info(f"drew the strongest cases of each group in {figure}")
