"""What :func:`~lcam_cli.runs.methods.list_methods` can be asked for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from lcam_cli.runs import checks as c
from lcam_cli.runs.options import METHOD_CHECKS, SHARED_CHECKS, BackboneOptions, EngineOptions


@dataclass(frozen=True)
class MethodsOptions:
    """For which network methods are listed; for none unless the classifier is named.

    Attributes:
        attention: A trained attention, a file or a run's folder; None for the newest that fits.
        contrast: ``"K"`` or ``"K:α"``, as of ``ExplainOptions``.
        layers: Several layers, whose maps are fused; the last is ``backbone.layer``.
        fuse: ``"max"``, ``"mean"`` or ``"product"``: how their maps become one.
        seed: Of random weights.
        backbone: The classifier.
        engine: Where and how it runs.

    Raises:
        LcamError: A value is of a wrong kind or out of range; the message names it.
    """

    attention: Path | None = None
    contrast: str | None = None
    layers: tuple[str, ...] = ()
    fuse: Literal["max", "mean", "product"] | None = None
    seed: int = 0
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **{name: SHARED_CHECKS[name] for name in ("seed", "backbone", "engine")},
        **METHOD_CHECKS,
        "attention": c.optional(c.path),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)

    @property
    def of_a_network(self) -> bool:
        """Whether a classifier is named, by itself or by a file that knows it."""
        named = (self.attention, self.backbone.backbone, self.backbone.weights)
        return any(one is not None for one in named)
