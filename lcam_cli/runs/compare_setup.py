"""From options to a comparison: its methods, pictures, classifier and engine. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

from lcam_cli.engine.engine import Engine
from lcam_cli.measures.compare import Candidate, Task, Terms
from lcam_cli.measures.compare_state import CompareState, shown_pictures
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.options import MethodOptions
from lcam_cli.runs import setup
from lcam_cli.runs.candidates import choose_candidates
from lcam_cli.runs.compare_options import CURVES, CompareOptions
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.ranks import Ranks
from lcam_cli.training.files import sample

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
    found = ranks.share(lambda: setup.find_pictures(inputs, options.pictures, reporter))
    found.paths = sample(found.paths, options.pictures.max_images, options.seed)
    engine = setup.new_engine(
        network,
        reporter,
        device=device,
        precision=options.engine.precision_of_measures,
        batch_size=options.engine.batch_size,
    )
    setup.note_unused_gpus(engine, ranks.info, "compare", reporter)
    setup.place_maps(engine, chosen.methods.values(), options.align, reporter)
    task = _task(found.paths, options, engine)
    return Comparison(
        engine,
        found,
        task,
        [
            Candidate(name, method, Terms.empty(task, network.preprocess.image_size))
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
        [name for name in options.metrics if name in CURVES],
        options.mask_space,
        shown_pictures(len(paths), _PICTURES_SHOWN),
    )
