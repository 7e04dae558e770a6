"""From options to a comparison: its methods, pictures, classifier and engine. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lcam_cli.engine.engine import Engine
from lcam_cli.measures.compare_state import CompareState, shown_pictures
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.registry import make_measures
from lcam_cli.measures.sweep import Candidate
from lcam_cli.measures.task import Task
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.options import MethodOptions
from lcam_cli.runs.candidates import choose_candidates
from lcam_cli.runs.compare_options import CompareOptions
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.engine import new_engine, note_unused_gpus, place_maps
from lcam_cli.runs.pictures import find_pictures
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.ranks import Ranks

_PICTURES_SHOWN = 8


def new_comparison(
    inputs: Sequence[str], options: CompareOptions, device: str, ranks: Ranks, reporter: Reporter
) -> Comparison:
    """Find the methods and pictures, and load the classifier.

    Args:
        inputs: Where the pictures are.
        options: What is compared.
        device: This rank's.
        ranks: Who takes part; the first finds the pictures for all.
        reporter: Is told what is compared on what.

    Raises:
        LcamError: A method, attention, backbone or class does not exist or does not fit, or there
            are no pictures.
    """
    chosen = choose_candidates(
        None if options.methods is None else list(options.methods),
        options.attentions,
        options.backbone,
        MethodOptions(options.seed, options.rise_masks, options.rise_cells, options.rise_p),
        floor=options.floor,
        reporter=reporter,
    )
    network = chosen.backbone
    found = ranks.share(lambda: find_pictures(inputs, options.pictures, reporter, options.seed))
    engine = new_engine(network, replace(options.engine.for_measures(), device=device), reporter)
    note_unused_gpus(engine, ranks.info, "compare", reporter)
    place_maps(engine, chosen.methods.values(), options.align, reporter)
    task = _task(found.paths, options, engine)
    return Comparison(
        engine,
        found,
        task,
        [
            Candidate(name, method, PictureScores.empty(task, network.preprocess.image_size))
            for name, method in chosen.methods.items()
        ],
        CompareState(options.state, engine, task),
        keep_maps=options.out is not None or options.report is not None,
        left_out=chosen.left_out,
    )


def _task(paths: Sequence[str], options: CompareOptions, engine: Engine) -> Task:
    return Task(
        paths,
        ClassChoice(tuple(engine.backbone.class_index(name) for name in options.class_names)),
        options.nu,
        make_measures(options.metrics),
        options.mask_space,
        options.keep,
        shown=shown_pictures(len(paths), _PICTURES_SHOWN),
    )
