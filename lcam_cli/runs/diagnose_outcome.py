"""A diagnosis from its beginning to its result, figure and page. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcam_cli.engine.engine import Engine
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
from lcam_cli.reports.diagnosis import TEXT_FORMATS, DiagnosisReport, to_json
from lcam_cli.reports.diagnosis_figure import WorstMistakes, draw_diagnosis
from lcam_cli.reports.diagnosis_page import DiagnosisPage
from lcam_cli.runs.diagnose_options import DiagnoseOptions
from lcam_cli.runs.engine import new_engine, place_maps
from lcam_cli.runs.flat_maps import warn_of_flat_maps
from lcam_cli.runs.log import log_to
from lcam_cli.runs.method import backbone_and_method
from lcam_cli.runs.pictures import find_pictures
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.result_files import write_result
from lcam_cli.runs.skipped import SkippedPictures
from lcam_cli.runs.stop import Stop


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
            reporter.warn(f"{unlabelled} pictures have no label in {labels}: they are left out")
        skipped = SkippedPictures(reporter, options.pictures.strict)
        for item in found.skipped:
            skipped(item)
        worst = WorstMistakes()
        page = None if options.report is None else DiagnosisPage(options.report)

        def show(shown: ExplainedMistake) -> None:
            worst.add(shown)
            if page is not None:
                page.add(shown)

        with reporter.progress(len(labelled), "diagnose", "pictures") as progress:
            diagnosis = diagnose_pictures(
                engine,
                method,
                labelled,
                [truth[path] for path in labelled],
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
        results = _results(diagnosis, method, engine, options, skipped.count, unlabelled)
        if options.figure is not None:
            _draw(options.figure, worst, results, found.root, reporter)
        written = None
        if page is not None:
            written = page.finish(results)
            reporter.info(f"every misclassified picture is in {written}")
        if options.out is not None:
            render = TEXT_FORMATS.get(options.format, TEXT_FORMATS["markdown"])
            write_result(render(results), options.out)
        return DiagnoseResult(results, skipped.count, skipped.what, written)


def _warn(diagnosis: Diagnosis, method: Method, engine: Engine, reporter: Reporter) -> None:
    """Say what of the diagnosis may surprise."""
    maps = 2 * len(diagnosis.mistakes)
    warn_of_flat_maps(reporter, {method.name: (diagnosis.flat_maps, maps)}, diagnosis.why_flat)
    if other_order := diagnosis.order.warning(engine.backbone.class_names):
        reporter.warn(other_order)


def _results(
    diagnosis: Diagnosis,
    method: Method,
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
    )


def _draw(
    figure: Path, worst: WorstMistakes, results: DiagnosisReport, root: str, reporter: Reporter
) -> None:
    if not results.diagnosis.mistakes:
        reporter.warn(f"nothing to draw in {figure}")
        return
    draw_diagnosis(figure, worst, results.class_names)
    mark_figure(figure, root)
    reporter.info(f"the worst of each group are drawn in {figure}")
