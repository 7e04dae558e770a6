"""From options to a comparison: its methods, images, classifier and engine. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.images.find import Found
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.maps.paths import stored_path
from lcam_cli.measures.compare_state import CompareState, shown_pictures
from lcam_cli.measures.object_files.read import Run, read_objects
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.sweep import Candidate
from lcam_cli.measures.task import Task
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.runs.candidates import choose_candidates
from lcam_cli.runs.compare_options import CompareOptions
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.engine import new_engine, note_unused_gpus, place_maps
from lcam_cli.runs.labels import true_classes
from lcam_cli.runs.method import method_options, with_last_layer
from lcam_cli.runs.pictures import find_pictures
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.shown import chosen_images, split_shown
from lcam_cli.scale.ranks import Ranks

_PICTURES_SHOWN = 8


def new_comparison(
    inputs: Sequence[str], options: CompareOptions, device: str, ranks: Ranks, reporter: Reporter
) -> Comparison:
    """Find the methods and images, and load the classifier.

    Args:
        inputs: Where the images are.
        options: What is compared.
        device: This rank's.
        ranks: Who takes part; the first finds the images for all.
        reporter: Is told what is compared on what.

    Raises:
        LcamError: A method, attention, backbone or class does not exist or does not fit, or there
            are no images.
    """
    chosen = choose_candidates(
        None if options.methods is None else list(options.methods),
        options.attentions,
        with_last_layer(options.backbone, options.layers),
        replace(
            method_options(options.seed, options.contrast, options.layers, options.fuse),
            rise_masks=options.rise_masks,
            rise_cells=options.rise_cells,
            rise_p=options.rise_p,
        ),
        floor=options.floor,
        reporter=reporter,
    )
    network = chosen.backbone
    found = ranks.share(lambda: find_pictures(inputs, options.pictures, reporter, options.seed))
    labels = ranks.share(lambda: _labels(found, options, network, reporter))
    engine = new_engine(network, replace(options.engine.for_measures(), device=device), reporter)
    note_unused_gpus(engine, ranks.info, "compare", reporter)
    place_maps(engine, chosen.methods.values(), options.align, reporter)
    # All ranks read the same of the objects: the first says what is left out.
    warn = reporter.warn if ranks.is_first else lambda _line: None
    task = _task(found, options, engine, warn, list(chosen.methods))
    return Comparison(
        engine,
        found,
        task,
        [
            Candidate(name, method, PictureScores.empty(task, network.preprocess.input_shape[1:]))
            for name, method in chosen.methods.items()
        ],
        CompareState(options.state, engine, task),
        keep_maps=options.results.maps is not None or options.report is not None,
        labels=labels,
        left_out=chosen.left_out,
    )


def _labels(
    found: Found, options: CompareOptions, network: Backbone, reporter: Reporter
) -> list[int | None] | None:
    """Find the true class of each image, None where it has none; None where nobody asks."""
    if options.labels is None:
        return None
    names = [stored_path(path, found.root) for path in found.paths]
    truth = true_classes(options.labels, names, network, found.root, reporter)
    return [truth.get(name) for name in names]


def _task(
    found: Found,
    options: CompareOptions,
    engine: Engine,
    warn: Callable[[str], None],
    methods: Sequence[str],
) -> Task:
    names = [stored_path(path, found.root) for path in found.paths]
    shown = chosen_images(split_shown(options.show, methods)[0], names, methods)
    run = Run.of_files(found.paths, found.root, options.engine.max_pixels or MAX_PIXELS)
    objects = read_objects(options.boxes, options.masks, run, engine.backbone, warn)
    return Task(
        found.paths,
        ClassChoice(tuple(engine.backbone.class_index(name) for name in options.class_names)),
        options.nu,
        make_measures(options.metrics, objects=objects is not None),
        options.mask_space,
        options.keep,
        objects,
        shown or shown_pictures(len(found.paths), _PICTURES_SHOWN),
    )
