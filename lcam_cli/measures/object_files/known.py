"""What boxes and masks have in common as those who know where the objects are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lcam_cli.images.stream import Batch
from lcam_cli.measures.object_files.left_out import Findings
from lcam_cli.measures.object_files.views import Views
from lcam_cli.measures.objects import Objects


class KnownObjects(ABC):
    """The objects of a run's images, and what was found of them.

    Args:
        findings: Notes what is found of images as they are looked at.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def lines(self) -> list[str]:
        """What was found of the images looked at so far, a line each."""
        return self._findings.lines()

    def found(self) -> Any:
        """The same as a JSON value."""
        return self._findings.known()

    def take_over(self, found: Any) -> None:
        """Note what :meth:`found` of the same objects gave elsewhere."""
        self._findings.take_over(found)

    def of(self, read: Batch, paths: Sequence[str], classes: Tensor) -> Objects:
        """Return the objects of B images, as ``measures.objects.ObjectSource`` says."""
        return self.in_views(Views.of(read), paths, classes)

    @abstractmethod
    def in_views(self, views: Views, paths: Sequence[str], classes: Tensor) -> Objects:
        """The same of images whose views are known."""
