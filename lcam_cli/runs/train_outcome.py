"""Training an attention, from finding the images to the run's folder. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError, plural
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.locks import lock_folder
from lcam_cli.measures.labels import labels_of_files
from lcam_cli.measures.selection import Selection
from lcam_cli.methods.attention_file import FILE_NAME
from lcam_cli.methods.base import Method
from lcam_cli.methods.learned import LCAM_MODES
from lcam_cli.runs.backbone import new_backbone
from lcam_cli.runs.engine import new_engine, note_unused_gpus
from lcam_cli.runs.half_precision import COSTS_TRAINING, hint_at_bf16
from lcam_cli.runs.kept_aside import KeptAside
from lcam_cli.runs.log import log_to
from lcam_cli.runs.options import BackboneOptions
from lcam_cli.runs.pictures import find_pictures
from lcam_cli.runs.reporter import Counter, Reporter
from lcam_cli.runs.skipped import SkippedPictures
from lcam_cli.runs.stop import Stop
from lcam_cli.runs.train_options import TrainOptions
from lcam_cli.scale.gradient_sync import GradientSync
from lcam_cli.scale.rank_info import RankInfo
from lcam_cli.scale.ranks import Exit, device_of, together
from lcam_cli.training.candidates import Choice
from lcam_cli.training.files import claim_run, run_folder
from lcam_cli.training.kept_aside import FEWEST_PICTURES, choose_aside
from lcam_cli.training.learnable import few_pictures
from lcam_cli.training.loop import TrainingSettings, share_of_batches
from lcam_cli.training.loop import train as train_on
from lcam_cli.training.modes import check_gradients
from lcam_cli.training.recipes import Recipe, recipe_for
from lcam_cli.working_folder import RunPath


@dataclass(frozen=True)
class TrainResult:
    """How training ended.

    Attributes:
        out: The run's folder.
        skipped: How many inputs were left out.
        skipped_what: What is the matter with them, as the end of a sentence.
        interrupted: Whether ``stop`` ended the run; ``resume`` goes on from there.
        is_first: Whether this is the first of several ranks, or the only one.
        selection: How what was learned compares with where the run started, on the images kept
            aside; None where there are none, or none of them could be scored, and for other ranks.
    """

    out: Path
    skipped: int = 0
    skipped_what: str = ""
    interrupted: bool = False
    is_first: bool = True
    selection: Selection | None = None

    @property
    def attention(self) -> Path:
        """The trained attention; it is there where the run was not interrupted."""
        return self.out / FILE_NAME


def train(
    inputs: Sequence[str],
    options: TrainOptions,
    workers: int,
    reporter: Reporter,
    stop: Stop,
) -> TrainResult:
    """Train an attention; see :func:`~lcam_cli.runs.train.train_attention`."""
    rank_info = RankInfo.of_environment()
    settings = _settings(options, workers)
    share_of_batches(settings, rank_info)  # refused before anything is read
    device = device_of(rank_info, options.engine.device)
    with ExitStack() as stack, together(rank_info, device) as ranks:
        stack.enter_context(narrow_pictures.reported_to(reporter.warn))
        stack.enter_context(log_to(reporter))
        found = ranks.share(lambda: find_pictures(inputs, options.pictures, reporter, options.seed))
        backbone = new_backbone(_backbone_options(options), options.seed)
        backbone.need_layer("lcam train")
        check_gradients(backbone, settings.mode)  # refused before a run is begun
        paths = found.paths
        if options.labels is not None:
            paths, labels = _labelled(options.labels, paths, found.root, backbone, reporter)
            settings = replace(settings, labels=labels)
        folder = options.out or RunPath(run_folder(backbone.identity.name, settings.mode))
        if ranks.is_first:
            stack.enter_context(lock_folder(folder))
        goes_on = ranks.share(
            lambda: claim_run(folder, resume=options.resume, overwrite=options.overwrite)
        )
        if goes_on != options.resume:
            reporter.info(f"nothing to resume in {folder}: starting from the beginning")
        batch = settings.recipe.batch_size
        running = replace(options.engine, device=device, batch_size=batch)
        engine = new_engine(backbone, running, reporter, "training")
        note_unused_gpus(engine, rank_info, "train", reporter)
        skipped = SkippedPictures(reporter, options.pictures.strict)
        if ranks.is_first:
            for item in found.skipped:
                skipped(item)
        aside, paths = _apart(paths, settings)
        settings = replace(settings, recipe=settings.recipe.fitted(len(paths)))
        _announce(reporter, options, settings.recipe, len(paths), len(aside), engine)
        kept_aside = KeptAside(aside, engine, settings, reporter, skipped, stop)
        sync = GradientSync(ranks)
        with ExitStack() as training:
            progress = training.enter_context(
                reporter.progress(len(paths) * settings.recipe.epochs, "train", "images")
            )
            ranks.show(progress.advance)

            def choose(candidates: Mapping[str, Method]) -> Choice | None:
                ranks.wait_for_others(lambda: False)  # they have nothing left to do
                training.close()
                return kept_aside.choose(candidates)

            attention = train_on(
                engine,
                paths,
                folder,
                settings,
                resume=goes_on,
                advance=ranks.advance,
                skip=skipped,
                stop=stop,
                step=Course(settings.recipe.epochs, progress).step,
                choose=choose if aside else None,
                sync=sync,
            )
            if attention is not None:
                ranks.finish(skipped.count)
                skipped.count += ranks.wait_for_others(lambda: False) if ranks.is_first else 0
        result = TrainResult(
            folder,
            skipped.count,
            skipped.what,
            interrupted=attention is None,
            is_first=ranks.is_first,
            selection=kept_aside.selection,
        )
        if result.interrupted:
            raise Exit
        if sync.steps and ranks.is_first:
            each = sync.sent / sync.steps
            reporter.info(f"each of {rank_info.size} ranks sent {each:,.0f} bytes per step")
    return result


class Course:
    """Shows the epoch and the loss beside the progress of a training run.

    The loss of one batch says little, so a running mean is shown.

    Args:
        epochs: How many there are.
        progress: What shows it.
    """

    _KEPT = 0.9
    """Share of the mean that a step leaves."""

    def __init__(self, epochs: int, progress: Counter) -> None:
        self._epochs, self._progress = epochs, progress
        self._sum, self._weight = 0.0, 0.0

    def step(self, epoch: int, loss: float) -> None:
        """Take in a step of an epoch, counted from 0."""
        self._sum = self._KEPT * self._sum + loss
        self._weight = self._KEPT * self._weight + 1
        mean = self._sum / self._weight
        self._progress.note(f"epoch {epoch + 1}/{self._epochs}, loss {mean:.4f}")


def _settings(options: TrainOptions, workers: int) -> TrainingSettings:
    """Return what the loop needs to know, without the labels.

    Raises:
        LcamError: Options do not go with the mode.
    """
    layers, mode = options.layers, options.mode
    if len(layers) > 1 and mode != "tame":
        raise LcamError(
            f"--mode {mode} accepts one --layer, not {len(layers)}", "pass only one --layer"
        )
    return TrainingSettings(
        options.run_mode,
        _recipe(options),
        layers=layers if mode == "tame" else (),
        seed=options.seed,
        workers=workers,
        max_pixels=options.engine.max_pixels or MAX_PIXELS,
    )


def _recipe(options: TrainOptions) -> Recipe:
    """Return the recipe, with what the options say in its place."""
    recipe = recipe_for(options.recipe, options.backbone.backbone or "", options.run_mode)
    if options.mode not in LCAM_MODES and options.init != "auto":
        raise LcamError(f"--init cannot be used with --mode {options.mode}", "remove --init")
    only_ce = options.loss == "ce"
    given = {
        "epochs": options.epochs,
        "batch_size": options.engine.batch_size,
        "lr": options.lr,
        "lambda_tv": 0.0 if only_ce else options.lambda_tv,
        "lambda_av": 0.0 if only_ce else options.lambda_av,
        "lambda_ce": options.lambda_ce,
        "lambda_drop": 0.0 if only_ce else None,
        "shown": "all" if only_ce else None,
        "lambda4": options.lambda4,
        "init": None if options.init == "auto" else options.init,
        "keep_aside": options.keep_aside,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if only_ce and options.lambda_ce is None and not recipe.lambda_ce:
        changes["lambda_ce"] = 1.0  # auto has another term in its place
    if options.epochs is not None:
        changes["min_steps"] = 0  # as many epochs as the user says, however few the steps
    return replace(recipe, **changes)  # type: ignore[arg-type]


def _apart(paths: Sequence[str], settings: TrainingSettings) -> tuple[list[str], list[str]]:
    """The images that are kept aside, and those that are trained on."""
    places = set(choose_aside(len(paths), settings.recipe.keep_aside, settings.seed))
    aside = [path for i, path in enumerate(paths) if i in places]
    return aside, [path for i, path in enumerate(paths) if i not in places]


def _announce(
    reporter: Reporter,
    options: TrainOptions,
    recipe: Recipe,
    pictures: int,
    aside: int,
    engine: Engine,
) -> None:
    """Say what is trained, on how many images, and what the user may want to change."""
    others = f" ({aside} more are kept aside)" if aside else ""
    reporter.info(
        f"training {_title(options)} on {plural(pictures, 'image')}{others}, "
        f"{plural(recipe.epochs, 'epoch')}, recipe {options.recipe}"
    )
    if too_few := few_pictures(pictures + aside):
        reporter.warn(too_few, once=True)
    if recipe.keep_aside and not aside:
        reporter.warn(
            f"{plural(pictures, 'image')} {'is' if pictures == 1 else 'are'} too few to keep some "
            f"aside (at least {FEWEST_PICTURES} are needed), so lcam cannot tell whether training "
            "helps",
            once=True,
        )
    passes = pictures * recipe.epochs
    hint_at_bf16(engine, options.engine, passes, COSTS_TRAINING, reporter)


def _backbone_options(options: TrainOptions) -> BackboneOptions:
    """Return the classifier's options: of several layers, the last one is its target layer."""
    if not options.layers:
        return options.backbone
    return replace(options.backbone, layer=options.layers[-1])


def _labelled(
    source: str, paths: list[str], root: str, backbone: Backbone, reporter: Reporter
) -> tuple[list[str], tuple[int, ...]]:
    """Return the images that have a label, and their classes; say how many have none."""
    truth = labels_of_files(source, paths, root, backbone, reporter.warn)
    if len(truth) < len(paths):
        reporter.warn(f"{len(paths) - len(truth)} images have no label and are skipped")
        paths = [path for path in paths if path in truth]
    return paths, tuple(truth[path] for path in paths)


def _title(options: TrainOptions) -> str:
    """What is trained, in words."""
    mode = options.mode
    title = f"L-CAM-{mode.capitalize()}" if mode in LCAM_MODES else mode.upper()
    return f"{title} and the head" if options.train_head else title
