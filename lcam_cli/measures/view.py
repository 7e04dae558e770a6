"""Pictures and maps as measures look at them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward, apply_masks
from lcam_cli.errors import LcamError, one_line
from lcam_cli.measures.curves import pixel_ranks
from lcam_cli.measures.objects import Objects
from lcam_cli.measures.threshold import Thresholds
from lcam_cli.methods.base import Method
from lcam_cli.methods.lent import NetworkChangedError
from lcam_cli.methods.run import run_method

log = logging.getLogger("lcam")


@dataclass(frozen=True)
class BatchView:
    """A batch of images, the same for all methods whose maps of it are scored.

    Attributes:
        engine: The engine with the classifier.
        forward: One pass over the images, B of them.
        space: ``"pixel"`` or ``"normalized"``: what hidden pixels become.
        keep: ``"values"`` or ``"whole"``: whether kept pixels have the map's value, or are whole.
        made: What :meth:`once` has made, by what made it.
    """

    engine: Engine
    forward: Forward
    space: str
    keep: str = "values"
    made: dict[Callable[[BatchView], Tensor], Tensor] = field(default_factory=dict)

    @property
    def x(self) -> Tensor:
        """The images, float32 (B, C, H, W) in [0, 1]."""
        return self.forward.x

    @property
    def mean(self) -> Tensor:
        """The classifier's mean colour, (1, C, 1, 1) in [0, 1]."""
        mean = self.engine.backbone.preprocess.mean
        return torch.tensor(mean, device=self.engine.device).view(1, -1, 1, 1)

    @property
    def hidden(self) -> Tensor:
        """The colour of hidden pixels, (1, C, 1, 1) in [0, 1]."""
        return self.mean if self.space == "normalized" else torch.zeros_like(self.mean)

    def once(self, make: Callable[[BatchView], Tensor]) -> Tensor:
        """Return ``make(self)``, which is called once whatever the number of methods and classes.

        Args:
            make: Makes something of the images alone, with the batch first. A function of a
                module, so that the next call finds what the first made.
        """
        if make not in self.made:
            self.made[make] = make(self)
        return self.made[make]

    def only(self, rows: Tensor) -> BatchView:
        """The same of some of its images."""
        made = {make: value[rows] for make, value in self.made.items()}
        return replace(self, forward=self.forward.only(rows), made=made)


@dataclass
class FailedAgain:
    """Whether a method has failed when it explained again, in a whole run: that is said once."""

    said: bool = False

    def say(self, method: Method, error: Exception) -> None:
        """Say it of the first image; how many there are the measures say, who leave them out."""
        if not self.said:
            why = error.what if isinstance(error, LcamError) else one_line(error)
            kind = "" if isinstance(error, LcamError) else f"{type(error).__name__}: "
            log.warning("%s fails when it explains again: %s%s", method.name, kind, why)
        self.said = True


@dataclass(frozen=True)
class MapView:
    """One method's maps of a batch, of one class an image.

    Attributes:
        batch: The images.
        V: The maps, float32 (B, H, W) in [0, 1].
        classes: The classes explained, int64 (B,).
        full: Their scores f(X), float32 (B,).
        method: Who made the maps, where a measure has it explain again; else None.
        objects: Where the objects of the classes are, where a measure asks for them; else None.
        failed_again: Whether the method has failed when it explained again, on any image.
    """

    batch: BatchView
    V: Tensor
    classes: Tensor
    full: Tensor
    method: Method | None = None
    objects: Objects | None = None
    failed_again: FailedAgain = field(default_factory=FailedAgain)

    @cached_property
    def thresholds(self) -> Thresholds:
        """The maps' highest pixels, at any ν."""
        return Thresholds(self.V)

    @cached_property
    def ranks(self) -> Tensor:
        """Each pixel's place in the order of its map, 0 the highest, int64 (B, H, W)."""
        return pixel_ranks(self.V)

    @cached_property
    def masked(self) -> Forward:
        """The images seen through their maps, X ⊙ V, in one pass.

        What V hides is the mask space's colour c: X ⊙ V = (X − c)·V + c.
        """
        batch = self.batch
        shown = apply_masks(batch.x - batch.hidden, self.V).add_(batch.hidden)
        return batch.engine.forward(shown)

    def explain_again(self, forward: Forward) -> Tensor:
        """Have the method explain the same classes on other images.

        An image that it fails on costs nothing but the measures that asked.

        Args:
            forward: The other images, B of them, e.g. :attr:`masked`.

        Returns:
            V of them, float32 (B, H, W) in [0, 1]; NaN of an image that the method fails on.

        Raises:
            NetworkChangedError: The method has changed the classifier.
        """
        try:
            return self._maps_of(forward, self.classes)
        except NetworkChangedError:
            raise
        except Exception:  # a method may be anybody's: one image must not cost the others theirs
            rows = (slice(i, i + 1) for i in range(len(self.classes)))
            return torch.cat([self._map_or_nan(forward.only(i), self.classes[i]) for i in rows])

    def _map_or_nan(self, forward: Forward, classes: Tensor) -> Tensor:
        """V of one image, (1, H, W)."""
        try:
            return self._maps_of(forward, classes)
        except NetworkChangedError:
            raise
        except Exception as error:
            assert self.method is not None
            self.failed_again.say(self.method, error)
            return torch.full_like(self.V[:1], math.nan)

    def _maps_of(self, forward: Forward, classes: Tensor) -> Tensor:
        assert self.method is not None, "no measure of the run declares that it explains again"
        checked = run_method(self.batch.engine, self.method, forward, classes)
        checked.check_range()
        return checked.maps.saliency

    def tensors(self) -> dict[str, Tensor]:
        """What perturbations are handed, by what it is called; none may be written to."""
        batch, forward = self.batch, self.batch.forward
        return {
            "view.V": self.V,
            "view.classes": self.classes,
            "view.full": self.full,
            "view.batch.x": forward.x,
            "view.batch.forward.A": forward.A,
            "view.batch.forward.logits": forward.logits,
            **{f"view.batch.once({make})": one for make, one in batch.made.items()},
            **self._tensors_of_masked(),
        }

    def _tensors_of_masked(self) -> dict[str, Tensor]:
        """The same of :attr:`masked`, once somebody has asked for it."""
        if "masked" not in self.__dict__:
            return {}
        masked = self.masked
        return {
            "view.masked.x": masked.x,
            "view.masked.A": masked.A,
            "view.masked.logits": masked.logits,
        }

    def of_classes(self, scores: Tensor) -> Tensor:
        """Of scores of all classes, (B, R), those of the classes explained: (B,)."""
        return scores.gather(1, self.classes.unsqueeze(1)).squeeze(1)
