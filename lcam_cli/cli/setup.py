"""From options to the things the library works with. Imports torch: call it from commands only."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from lcam_cli.cli import pipes
from lcam_cli.cli.console import Console
from lcam_cli.cli.options import parse_triple
from lcam_cli.cli.runs import newest_run
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.class_names import read_class_names
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.identity import Identity
from lcam_cli.engine.networks import load_network
from lcam_cli.engine.recall import Given
from lcam_cli.engine.tokens import parse_grid
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Found, Skipped, find_images, read_path_list
from lcam_cli.images.preprocess import Fit, Preprocess
from lcam_cli.images.tars import expand_braces
from lcam_cli.methods.attention_file import (
    check_fits,
    find_attention,
    holds_trained_head,
    load_attention,
)
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import NOT_NUMBERS
from lcam_cli.methods.placing import grid_of_maps
from lcam_cli.methods.recall import recall_classifier
from lcam_cli.methods.registry import find_method, make_method
from lcam_cli.methods.trained import LCAM, is_trained, method_of, names_of
from lcam_cli.scale.place import Place

log = logging.getLogger("lcam")


@dataclass(frozen=True)
class BackboneOptions:
    """The backbone options as typed; None where they were not."""

    backbone: str | None
    weights: str | None
    layer: str | None
    classes: Path | None
    image_size: int | None
    resize: int | None
    mean: str | None
    std: str | None
    fit: Fit | None = None
    grid: str | None = None
    activation: str | None = None
    output: str | None = None

    @property
    def given(self) -> Given:
        """What they say about the network."""
        return Given(
            self.backbone, self.weights, self.layer, self.grid, self.activation, self.output
        )

    def preprocess(self, own: Preprocess) -> Preprocess:
        """The weights' own preprocessing, with what was typed in its place."""
        typed = {
            "image_size": self.image_size,
            "resize": self.resize or (self._scaled_resize(own) if self.image_size else None),
            "mean": parse_triple(self.mean) if self.mean else None,
            "std": parse_triple(self.std) if self.std else None,
            "fit": self.fit,
        }
        changes = {name: value for name, value in typed.items() if value is not None}
        return dataclasses.replace(own, **changes)  # type: ignore[arg-type]

    def _scaled_resize(self, own: Preprocess) -> int:
        """Another input size alone keeps the share of the picture that the crop shows."""
        return round((self.image_size or 0) * own.resize / own.image_size)


def new_backbone(options: BackboneOptions, seed: int) -> Backbone:
    """Load the backbone that the options name; ``--weights`` may be a run with a trained head.

    Raises:
        LcamError: They name none, or one that cannot be loaded.
    """
    if options.weights is not None and holds_trained_head(Path(options.weights)):
        settings = load_attention(Path(options.weights)).settings
        assert settings is not None
        return backbone_of_file(
            options.weights,
            settings.identity,
            options,
            class_names=settings.class_names,
            preprocess=settings.preprocess,
        )
    if options.backbone is None:
        raise LcamError("no backbone named", "name one, e.g. --backbone resnet50, or in lcam.toml")
    if options.grid is not None:
        parse_grid(options.grid)  # before weights are loaded
    network = load_network(options.backbone, options.weights or "DEFAULT", seed=seed)
    network.preprocess = options.preprocess(network.preprocess)
    if options.classes is not None:
        network.class_names = read_class_names(options.classes)
    return Backbone(
        network,
        options.layer,
        grid=options.grid or "",
        activation=options.activation,
        output=options.output or "",
    )


def backbone_of_file(
    source: str,
    identity: Identity,
    options: BackboneOptions,
    *,
    class_names: list[str] | None,
    preprocess: Preprocess,
) -> Backbone:
    """Load the backbone that an attention or a maps file was made with.

    Raises:
        LcamError: An option says other than the file.
    """
    # How a picture fits into the input is the user's choice every time.
    wanted = dataclasses.replace(preprocess, fit=options.fit or preprocess.fit)
    if options.preprocess(wanted) != wanted:
        raise LcamError(
            f"{source} brings its own preprocessing",
            "leave --image-size, --resize, --mean and --std out",
        )
    if options.classes is not None:
        typed = read_class_names(options.classes)
        if class_names is not None and typed != class_names:
            raise LcamError(
                f"{source} has other class names than {options.classes}", "leave --classes out"
            )
        class_names = typed
    return recall_classifier(
        source, identity, options.given, class_names=class_names, preprocess=wanted
    )


def backbone_and_method(
    method: str,
    attention: Path | None,
    options: BackboneOptions,
    seed: int,
    console: Console,
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
        console: Is told which run is taken.
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
        file = newest_run(None if any_run else method, options, console)
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
    console: Console,
    *,
    device: str,
    precision: str,
    batch_size: int | None,
) -> Engine:
    """Make the engine, and say what it runs on."""
    show_log(console)
    engine = Engine(backbone, device=device, precision=precision, batch_size=batch_size)
    identity = backbone.identity
    where = "no layer"
    if backbone.has_layer:
        K, P, Q = backbone.feature_shape
        where = f"layer {identity.layer} ({P}×{Q}×{K})"
    console.info(
        f"{identity.name}, {where}, {backbone.num_classes} classes; "
        f"{engine.hardware.name}, {engine.hardware.precision}, batch {engine.batch_size}"
    )
    return engine


def tell_of_gpus(engine: Engine, place: Place, command: str, console: Console) -> None:
    """Say how to use all GPUs of a machine, where one of several is used."""
    if engine.device.type != "cuda" or place.size > 1:
        return
    count = torch.cuda.device_count()
    if count > 1:
        console.info(
            f"using 1 of {count} GPUs; all: torchrun --nproc-per-node {count} -m lcam_cli "
            f"{command} …"
        )


def place_maps(
    engine: Engine, methods: Iterable[Method], align: bool | None, console: Console
) -> None:
    """Have maps placed as asked (``--align``), and let the methods' records say where they are."""
    engine.align = align
    for method in methods:
        if align is not None:
            method.params["align"] = align
        grid = grid_of_maps(engine, method)
        method.params["grid"] = grid and {"start": [grid.start] * 2, "step": [grid.step] * 2}
    if align and engine.backbone.grid is None:
        console.warn(
            f"where the cells of layer {engine.backbone.identity.layer} lie is not known: maps "
            "tile the picture evenly"
        )


def pictures(inputs: list[str], null: bool, console: Console) -> Found:
    """Find the pictures named on the command line, and on stdin where ``-`` stands.

    Commands (``pipe:…``) are run here, and only those on the command line. What the inputs hold
    that is not taken, though somebody may miss it, is told.

    Raises:
        LcamError: There are none.
    """
    listed = read_path_list(sys.stdin.buffer, null) if "-" in inputs else ()
    named, broken = [], []
    for given in inputs:
        if not pipes.is_pipe(given):
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
    for line in found.passed_over.told():
        console.warn(line)
    return found


class SkippedPictures:
    """Tells of every picture that is left out, and counts them; with ``strict``, stops at one."""

    def __init__(self, console: Console, strict: bool) -> None:
        self._console = console
        self.strict = strict
        self.count = 0
        self._what = "could not be read"

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
            self._what = "are left out"
        self._console.warn(f"skipped {skipped.path}: {skipped.reason}")

    def exit_code(self) -> int:
        """3 where something was left out, else 0."""
        if self.count:
            self._console.warn(f"{self.count} of the inputs {self._what} (exit code 3)")
        return 3 if self.count else 0


def show_log(console: Console) -> None:
    """Pass the library's warnings on to the console."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.warn(record.getMessage(), once=getattr(record, "once", False))

    logger = logging.getLogger("lcam")
    logger.handlers = [Handler()]
    logger.propagate = False
