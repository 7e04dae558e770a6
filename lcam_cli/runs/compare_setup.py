"""From options to a comparison: its methods, pictures, classifier and engine. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

from lcam_cli.engine.engine import Engine
from lcam_cli.images.find import Found
from lcam_cli.measures.compare import Candidate, Task, Terms
from lcam_cli.measures.compare_state import CompareState, shown_pictures
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.options import MethodOptions
from lcam_cli.runs import setup
from lcam_cli.runs.candidates import Candidates, choose_candidates
from lcam_cli.runs.compare_options import CURVES, CompareOptions
from lcam_cli.runs.comparison import Comparison
from lcam_cli.runs.reporter import Reporter
from lcam_cli.scale.rank_info import RankInfo

_PICTURES_SHOWN = 8


def candidates_of(options: CompareOptions, reporter: Reporter) -> Candidates:
    """Find the methods that the options name, and load the classifier that they explain.

    Raises:
        LcamError: A method, attention or backbone does not exist or does not fit.
    """
    return choose_candidates(
        None if options.methods is None else list(options.methods),
        options.attentions,
        options.backbone,
        MethodOptions(
            seed=options.seed,
            rise_masks=options.rise_masks,
            rise_cells=options.rise_cells,
            rise_p=options.rise_p,
        ),
        floor=options.floor,
        reporter=reporter,
    )


def new_comparison(
    chosen: Candidates,
    found: Found,
    options: CompareOptions,
    device: str,
    rank_info: RankInfo,
    reporter: Reporter,
) -> Comparison:
    """Make the engine, and say what is scored.

    Args:
        chosen: The methods and the classifier.
        found: The pictures.
        options: What is measured.
        device: This rank's.
        rank_info: Which rank this is.
        reporter: Is told what the engine runs on.

    Raises:
        LcamError: A class to explain does not exist.
    """
    network = chosen.backbone
    engine = setup.new_engine(
        network,
        reporter,
        device=device,
        precision=options.engine.precision_of_measures,
        batch_size=options.engine.batch_size,
    )
    setup.note_unused_gpus(engine, rank_info, "compare", reporter)
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
