"""The mark of what lcam writes among images; :mod:`lcam_cli.images.own_outputs` reads it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from lcam_cli.images.own_outputs import MARK, read_mark
from lcam_cli.maps.atomic import TEMPORARY


def mark_overlays(folder: Path) -> None:
    """Note that a folder holds overlays.

    Raises:
        OSError: It cannot be written to.
    """
    _mark(folder, {"overlays": True})


def mark_figure(figure: Path, root: str) -> None:
    """Note a figure, where it lies below the folder that the images come from.

    Args:
        figure: The file.
        root: That folder.

    Raises:
        OSError: The figure's folder cannot be written to.
    """
    folder = figure.absolute().parent
    if not folder.is_relative_to(root):
        return
    figures = read_mark(str(folder)).get("figures")
    known = [name for name in figures if name != figure.name] if isinstance(figures, list) else []
    _mark(folder, {"figures": [*known, figure.name]})


def _mark(folder: Path, changes: dict[str, object]) -> None:
    old = read_mark(str(folder))
    new = {**old, **changes}
    if new == old:
        return
    folder.mkdir(parents=True, exist_ok=True)
    # A name of this process's own: the shards of a run may write into one folder.
    temporary = folder / f"{MARK}.{os.getpid()}-{threading.get_ident()}{TEMPORARY}"
    try:
        temporary.write_text(json.dumps(new) + "\n", "ascii")
        temporary.replace(folder / MARK)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
