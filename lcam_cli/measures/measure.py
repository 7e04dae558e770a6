"""What a measure is: which perturbed images it wants scored, and what it makes of the scores.

Nothing here needs torch when it is imported: what measures there are, and what they are called, is
known before anything is computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from lcam_cli.measures.objects import Objects
    from lcam_cli.measures.view import MapView


class Perturbation(Protocol):
    """A way to change images by their maps, so that the classifier scores what comes of it.

    Perturbations that are equal are scored once for all measures of a run: a frozen dataclass is
    one that compares by what it says.
    """

    def scores(self, view: MapView) -> Tensor:
        """Score the images of ``view``, perturbed.

        Returns:
            Scores of the classes explained, float32 (..., B): one per image, or one per image for
            every step of several.
        """
        ...


@dataclass(frozen=True)
class Kept:
    """X ⊙ φ_ν(V): the highest ν% of the map are kept (L-CAM, Eq. 10 and 11).

    Where the run says ``keep="whole"``, these pixels are shown whole, so that only the place of a
    map counts and not its brightness.

    Attributes:
        nu: The percentage ν, in (0, 100].
    """

    nu: float

    def scores(self, view: MapView) -> Tensor:
        """Scores f(X ⊙ φ_ν(V)), float32 (B,)."""
        batch = view.batch
        if batch.keep == "whole":
            kept = view.thresholds.is_kept(self.nu)
            if kept.all():  # the very image, whatever another pass would round
                return view.full
            mask = kept.to(view.V.dtype)
        elif self.nu == 100 and view.method is not None:
            return view.masked.confidence(view.classes)  # measures that explain again pass it too
        else:
            mask = view.thresholds.top_percent(self.nu)
        return batch.engine.masked_confidence(batch.x, mask, view.classes, batch.space)


@dataclass(frozen=True)
class MapScores:
    """What measures make their numbers of: B maps, an image and a class each.

    Attributes:
        V: The maps, float32 (B, H, W) in [0, 1].
        full: Scores f(X) of the classes explained, float32 (B,).
        perturbed: The scores of each perturbation, float32 (..., B).
        objects: Where the objects of the classes explained are; None where nobody has said.
    """

    V: Tensor
    full: Tensor
    perturbed: Mapping[Perturbation, Tensor]
    objects: Objects | None = None

    def __getitem__(self, perturbation: Perturbation) -> Tensor:
        return self.perturbed[perturbation]

    def tensors(self) -> dict[str, Tensor]:
        """What measures are handed, by what it is called; none may be written to."""
        scores = {f"scores[{one!r}]": found for one, found in self.perturbed.items()}
        return {"scores.V": self.V, "scores.full": self.full, **scores}

    def only(self, rows: Tensor) -> MapScores:
        """The same of some of the maps, (B,) bool."""
        return replace(
            self,
            V=self.V[rows],
            full=self.full[rows],
            perturbed={name: scores[..., rows] for name, scores in self.perturbed.items()},
            objects=self.objects and self.objects.only(rows),
        )


class Measure(ABC):
    """A number for every image and map, and how it is shown.

    Over images a measure is the mean of its numbers, with a bootstrap interval. Where several
    classes of an image are explained, the image's number is the mean of theirs. NaN means that
    the measure is not defined for a map; such a map is left out and counted.

    A measure that is no mean over images, but made of means, has several numbers a map, its
    :attr:`parts`, and :meth:`summary` makes the measure of their means.

    Attributes:
        name: As users type it; the key in JSON, the column in CSV.
        title: The head of its column.
        lower_is_better: Whether the lowest mean is the best; else the highest.
        per_nu: Whether there is a number at each percentage ν.
        digits: Decimals in tables.
        mean_key: Where there is one number an image: what JSON calls its mean.
        long_title: The title of its curve over ν, with the unit; empty for ``title``.
        meaning: What it is, for readers of a report: "AD(ν) is …".
        left_out: What is said of maps it is not defined for: "{maps} of score 0 left out", where
            ``{maps}`` becomes their number, "3 maps". Empty where it is always defined.
        cost: What it costs a map, in words, besides the images' own forward pass.
        source: Where it comes from: authors, place and year.
        needs_objects: Whether it asks where the objects are, ``MapScores.objects``.
        explains_again: Whether it has the method explain other images, ``MapView.method``.
        parts: How many numbers it has a map.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    lower_is_better: ClassVar[bool]
    per_nu: ClassVar[bool] = False
    digits: ClassVar[int] = 3
    mean_key: ClassVar[str] = "mean"
    long_title: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    left_out: ClassVar[str] = ""
    cost: ClassVar[str] = ""
    source: ClassVar[str] = ""
    needs_objects: ClassVar[bool] = False
    explains_again: ClassVar[bool] = False
    parts: ClassVar[int] = 1

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its numbers depend on besides the scores, as JSON values."""
        return {}

    @abstractmethod
    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        """Say what is to be scored besides the images themselves.

        Args:
            nu: The percentage ν, in (0, 100]; 100 where the measure is not one at each ν.
        """

    @abstractmethod
    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Make one number a map of the scores.

        Args:
            scores: Of B maps, with what :meth:`perturbations` asked for.
            nu: As there.

        Returns:
            Float or bool, (B,), or (parts, B) where there are several; NaN where the measure is
            not defined.
        """

    def summary(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Make the measure of the means of its parts.

        Args:
            means: Over images, (..., parts). Of one image, its own numbers.

        Returns:
            (...); by default the only part.
        """
        return means[..., 0]


NO_NUMBERS = "{maps} skipped because it has no number for them"
"""What is said of a measure that is not defined for some maps, and does not say it may be."""


class MapMeasure(Measure):
    """A measure of the map alone, or of the map and the objects: no other image is scored."""

    cost = "none"

    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        """Ask for nothing."""
        return []


class NuMeasure(Measure):
    """A measure at each ν: what becomes of the score where the highest ν% of the map are kept."""

    per_nu = True
    digits = 2
    cost = "1 pass a ν"

    def perturbations(self, nu: float) -> Sequence[Perturbation]:
        """Ask for the score at ν."""
        return [Kept(nu)]

    def numbers(self, scores: MapScores, nu: float) -> Tensor:
        """Compare the score at ν with the full score."""
        return self.compare(scores.full, scores[Kept(nu)])

    @abstractmethod
    def compare(self, full: Tensor, kept: Tensor) -> Tensor:
        """Make one number a map of two scores of its class.

        Args:
            full: f(X), the score on the whole image, float32 (B,) in [0, 1].
            kept: f(X ⊙ φ_ν(V)), the score on what is kept, the same.

        Returns:
            Float or bool, (B,); NaN where the measure is not defined.
        """


@dataclass(frozen=True)
class Quantity:
    """What has one number a map: a measure, at one ν where it is one at each.

    Attributes:
        measure: The measure.
        nu: The percentage ν; None where the measure has none.
    """

    measure: Measure
    nu: float | None

    @property
    def perturbations(self) -> Sequence[Perturbation]:
        """What it wants scored."""
        return self.measure.perturbations(self._nu)

    def numbers(self, scores: MapScores) -> Tensor:
        """Its numbers a map, (B,) or (parts, B)."""
        return self.measure.numbers(scores, self._nu)

    @property
    def _nu(self) -> float:
        return 100.0 if self.nu is None else self.nu


def quantities(measures: Iterable[Measure], nus: Sequence[float]) -> list[Quantity]:
    """Return all numbers that measures have at some ν: measure by measure, ν by ν."""
    return [
        Quantity(measure, nu) for measure in measures for nu in (nus if measure.per_nu else [None])
    ]


class Parts:
    """Which rows of an array of numbers belong to which quantity: one a part, in their order.

    Args:
        measured: K quantities, of J parts altogether.
    """

    def __init__(self, measured: Sequence[Quantity]) -> None:
        self._measures = [quantity.measure for quantity in measured]
        ends = list(accumulate(measure.parts for measure in self._measures))
        self.count = ends[-1] if ends else 0
        self.slices = [slice(a, b) for a, b in pairwise([0, *ends])]

    def summarise(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Make the quantities, (K, ...), of the means of their parts, (J, ...)."""
        import numpy as np

        found = np.empty((len(self._measures), *means.shape[1:]))
        parts_last = [*range(1, means.ndim), 0]
        for k, (measure, rows) in enumerate(zip(self._measures, self.slices, strict=True)):
            found[k] = measure.summary(means[rows].transpose(parts_last))
        return found
