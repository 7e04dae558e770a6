"""The page of a diagnosis: groups, classes, and every misclassified picture with both its maps."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from lcam_cli.maps.overlay import overlay
from lcam_cli.maps.record import Floats
from lcam_cli.measures.diagnose import ExplainedMistake
from lcam_cli.measures.error_groups import Group
from lcam_cli.reports.diagnosis import (
    DiagnosisReport,
    caption,
    few_signs,
    has_few_signs,
    headline,
    percent,
)
from lcam_cli.reports.page import PageFolder
from lcam_cli.reports.text import printable

_PICTURES = "pictures"
_SIDE = 224  # pixels; what most networks see
_QUALITY = 82
_KINDS = ("seen", "true", "predicted")


class DiagnosisPage:
    """Writes pictures as they come, so that memory does not grow with them, and the page last.

    Args:
        folder: The folder of the page; see :class:`PageFolder`.

    Raises:
        LcamError: It cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._pages = PageFolder(folder, ("diagnosis.css", "diagnosis.js"), (_PICTURES,))
        self._count = 0
        self._size = (_SIDE, _SIDE)  # width and height of all of them

    def add(self, shown: ExplainedMistake) -> None:
        """Write the next misclassified picture: as the network sees it, and under each map.

        Raises:
            LcamError: The disk is full or fails.
        """
        view = Image.fromarray(shown.view)
        view.thumbnail((_SIDE, _SIDE))
        self._size = view.size
        drawn = (view, _under(view, shown.true_map), _under(view, shown.predicted_map))
        for kind, picture in zip(_KINDS, drawn, strict=True):
            data = io.BytesIO()
            picture.save(data, "JPEG", quality=_QUALITY)
            self._pages.write(_file_name(self._count, kind), data.getvalue())
        self._count += 1

    def finish(self, report: DiagnosisReport) -> Path:
        """Write the page itself; return its path.

        Args:
            report: What was found; its mistakes are those that were added, in that order.

        Raises:
            LcamError: The disk is full or fails.
        """
        pictures = [
            {
                "files": {kind: _file_name(number, kind) for kind in _KINDS},
                "path": printable(m.path),
                "true": m.true,
                "predicted": m.predicted,
                "evidence": m.evidence,
                "group": m.group,
            }
            for number, m in enumerate(report.diagnosis.mistakes)
        ]
        return self._pages.finish(
            "diagnosis.html.j2",
            report=report,
            few=few_signs() if has_few_signs(report) else "",
            headline=headline(report),
            caption=caption(report),
            percent=percent,
            groups=list(Group),
            pictures=pictures,
            size=self._size,
        )


def _file_name(number: int, kind: str) -> str:
    return f"{_PICTURES}/{number:06}-{kind}.jpg"


def _under(view: Image.Image, V: Floats) -> Image.Image:
    return overlay(view, np.clip(V, 0, 1), (0, 0, view.width, view.height))
