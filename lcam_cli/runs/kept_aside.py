"""The images that a training run keeps aside, and what is chosen on them. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import plural
from lcam_cli.images.find import Skipped
from lcam_cli.measures.drops import Measured, measure_drops
from lcam_cli.measures.selection import DROPS, SHOWN, Selection, select
from lcam_cli.methods.base import Method
from lcam_cli.methods.noise import RandomMap
from lcam_cli.methods.registry import make_method
from lcam_cli.reports.selection import selection_lines
from lcam_cli.runs.reporter import Reporter
from lcam_cli.training.candidates import LEARNED, START, Choice
from lcam_cli.training.settings import TrainingSettings


@dataclass
class KeptAside:
    """Chooses among the candidates of a run by the images that it was not trained on.

    Attributes:
        paths: The images, at least one.
        engine: The engine with the classifier.
        settings: Those of the run.
        reporter: Is told of progress, and how the candidates compare.
        skip: Called with each image that cannot be scored.
        stop: Asked on the way; True ends it.
        selection: What was chosen; None before, and where no image could be scored.
    """

    paths: Sequence[str]
    engine: Engine
    settings: TrainingSettings
    reporter: Reporter
    skip: Callable[[Skipped], None]
    stop: Callable[[], bool]
    selection: Selection | None = None

    def choose(self, candidates: Mapping[str, Method]) -> Choice | None:
        """Score all candidates, and random maps, in one pass over the images.

        Args:
            candidates: By name, where the run started among them.

        Returns:
            The best; where no image can be scored, what was learned. None where it was stopped.
        """
        settings, floor = self.settings, RandomMap.name
        random = make_method(floor, self.engine.backbone, seed=settings.seed)
        methods = {name: Measured(method, DROPS) for name, method in candidates.items()}
        methods[floor] = Measured(random, SHOWN)
        total = len(self.paths) * len(methods)
        with self.reporter.progress(total, "choose", "maps") as progress:
            drops = measure_drops(
                self.engine,
                methods,
                self.paths,
                workers=settings.workers,
                max_pixels=settings.max_pixels,
                advance=progress.advance,
                skip=self.skip,
                stop=self.stop,
            )
        if drops is None:
            return None
        of_random = drops.pop(floor)
        self.selection = select(drops, of_random, START, settings.seed)
        if self.selection is None:
            self.reporter.warn(
                f"none of the {plural(len(self.paths), 'image')} kept aside could be scored: "
                "lcam cannot tell whether training helped"
            )
            return Choice(LEARNED, {"kept_aside": len(self.paths), "pictures": 0})
        for line in selection_lines(self.selection):
            self.reporter.info(line)
        return Choice(self.selection.chosen, self.selection.to_json())
