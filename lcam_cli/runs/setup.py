"""From options to the things the library works with. Imports torch: call it from commands only."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Found, Skipped, find_images
from lcam_cli.images.tars import expand_braces
from lcam_cli.methods.attention_file import (
    check_fits,
    find_attention,
    load_attention,
)
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import NOT_NUMBERS
from lcam_cli.methods.placing import grid_of_maps
from lcam_cli.methods.registry import find_method, make_method
from lcam_cli.methods.trained import LCAM, is_trained, method_of, names_of
from lcam_cli.runs import pipes
from lcam_cli.runs.backbone import backbone_of_file, new_backbone
from lcam_cli.runs.newest_run import newest_run
from lcam_cli.runs.options import BackboneOptions, PictureOptions
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.rank_info import RankInfo

log = logging.getLogger("lcam")


def backbone_and_method(
    method: str,
    attention: Path | None,
    options: BackboneOptions,
    seed: int,
    reporter: Reporter,
    *,
    any_run: bool,
) -> tuple[Backbone, Method]:
    """Load the method that is named, and the backbone it explains.

    A trained attention brings its own backbone. The authors' checkpoints do not say which theirs
    was, so there the options name it.

    Args:
        method: Its name.
        attention: A trained one; None for the newest run that fits.
        options: The backbone as typed.
        seed: For random weights, and whatever the method draws.
        reporter: Is told which run is taken.
        any_run: Whether that may be one of another method: nobody has named this one.

    Raises:
        LcamError: The method, the attention or the backbone does not exist, or they do not fit.
    """
    if not is_trained(method):
        if attention is not None:
            raise LcamError(f"--attention does not go with --method {method}", "leave one out")
        find_method(method)  # a mistyped name is told before a backbone is downloaded
        backbone = new_backbone(options, seed)
        return backbone, make_method(method, backbone, seed=seed)
    if attention is not None:
        file = load_attention(find_attention(attention))
    else:
        file = newest_run(None if any_run else method, options, reporter)
    row = names_of(file)[0] if method == LCAM else method
    if row not in names_of(file):
        raise LcamError(
            f"{file.path} is no attention of {method}", f"it is one of {', '.join(names_of(file))}"
        )
    if file.settings is None:
        backbone = new_backbone(options, seed)
    else:
        backbone = backbone_of_file(
            str(file.path),
            file.settings.identity,
            options,
            class_names=file.settings.class_names,
            preprocess=file.settings.preprocess,
        )
    check_fits(file, backbone)
    return backbone, method_of(file, row)


def new_engine(
    backbone: Backbone,
    reporter: Reporter,
    *,
    device: str,
    precision: str,
    batch_size: int | None,
) -> Engine:
    """Make the engine, and say what it runs on."""
    show_log(reporter)
    engine = Engine(backbone, device=device, precision=precision, batch_size=batch_size)
    identity = backbone.identity
    where = "no layer"
    if backbone.has_layer:
        K, P, Q = backbone.feature_shape
        where = f"layer {identity.layer} ({P}×{Q}×{K})"
    reporter.info(
        f"{identity.name}, {where}, {backbone.num_classes} classes; "
        f"{engine.hardware.name}, {engine.hardware.precision}, batch {engine.batch_size}"
    )
    return engine


def note_unused_gpus(engine: Engine, rank_info: RankInfo, command: str, reporter: Reporter) -> None:
    """Say how to use all GPUs of a machine, where one of several is used."""
    if engine.device.type != "cuda" or rank_info.size > 1:
        return
    count = torch.cuda.device_count()
    if count > 1:
        reporter.info(
            f"using 1 of {count} GPUs; all: torchrun --nproc-per-node {count} -m lcam_cli "
            f"{command} …"
        )


def place_maps(
    engine: Engine, methods: Iterable[Method], align: bool | None, reporter: Reporter
) -> None:
    """Have maps placed as asked (``--align``), and let the methods' records say where they are."""
    engine.align = align
    for method in methods:
        if align is not None:
            method.params["align"] = align
        grid = grid_of_maps(engine, method)
        method.params["grid"] = grid and {"start": [grid.start] * 2, "step": [grid.step] * 2}
    if align and engine.backbone.grid is None:
        reporter.warn(
            f"where the cells of layer {engine.backbone.identity.layer} lie is not known: maps "
            "tile the picture evenly"
        )


def find_pictures(inputs: Sequence[str], options: PictureOptions, reporter: Reporter) -> Found:
    """Find the pictures that the inputs name.

    What they hold that is not taken, though somebody may miss it, is reported.

    Raises:
        LcamError: There are none.
    """
    listed = options.listed() if "-" in inputs else ()
    named, broken = [], []
    for given in inputs:
        if not (options.run_commands and pipes.is_pipe(given)):
            named.append(given)
            continue
        for item in expand_braces(given):
            try:
                named.append(pipes.stored(item))
            except LcamError as error:
                broken.append((item, error))
    if broken and not named:
        raise broken[0][1]
    found = find_images(named, listed)
    for item, failed in broken:
        # A command may hold passwords: it is told, and in the output there is its digest.
        log.warning("%s", failed.what)
        found.skipped.append(Skipped(str(pipes.place_of(item)), "its command failed"))
    for line in found.passed_over.lines():
        reporter.warn(line)
    return found


class SkippedPictures:
    """Tells of every picture that is left out, and counts them; with ``strict``, stops at one."""

    def __init__(self, reporter: Reporter, strict: bool) -> None:
        self._reporter = reporter
        self.strict = strict
        self.count = 0
        self.what = "could not be read"

    def __call__(self, skipped: Skipped) -> None:
        """Note one.

        Raises:
            LcamError: Where ``strict``.
        """
        if self.strict:
            raise LcamError(
                f"{skipped.path}: {skipped.reason}",
                "leave --strict out to go on without such pictures",
            )
        self.count += 1
        if skipped.reason.startswith(NOT_NUMBERS):
            self.what = "are left out"
        self._reporter.warn(f"skipped {skipped.path}: {skipped.reason}")

    def exit_code(self) -> int:
        """3 where something was left out, else 0."""
        if self.count:
            self._reporter.warn(f"{self.count} of the inputs {self.what} (exit code 3)")
        return 3 if self.count else 0


def show_log(reporter: Reporter) -> None:
    """Pass the library's warnings on to the reporter."""
    if reporter.logs:  # they would come back
        return

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reporter.warn(record.getMessage(), once=getattr(record, "once", False))

    logger = logging.getLogger("lcam")
    logger.handlers = [Handler()]
    logger.propagate = False
