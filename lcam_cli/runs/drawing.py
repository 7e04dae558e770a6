"""What a run says once of its overlays, before it draws any."""

from __future__ import annotations

from pathlib import Path

from lcam_cli.images.preprocess import Preprocess
from lcam_cli.runs.options import OverlayOptions
from lcam_cli.runs.reporter import Reporter
from lcam_cli.runs.targets import is_hdf5


def note_drawing(
    overlays: OverlayOptions,
    out: Path,
    preprocess: Preprocess,
    reporter: Reporter,
    *,
    of_regions: bool,
) -> None:
    """Say which options draw nothing, and why part of each overlay is dim.

    Args:
        overlays: What is asked of overlays.
        out: The file or folder that the maps go to.
        preprocess: How images become the network's input.
        reporter: Is told.
        of_regions: Whether the contour is also that of ``--regions``.
    """
    if overlays.folder is None and is_hdf5(out):
        asked = {
            "--contour": overlays.contour is not None and not of_regions,
            "--colorbar": overlays.colorbar,
            "--smooth": overlays.smooth,
        }
        names = [name for name, is_asked in asked.items() if is_asked]
        if names:
            reporter.warn(
                f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} no effect without "
                "overlays: set their folder with --overlays DIR"
            )
    elif preprocess.fit == "crop":
        reporter.info(
            "overlays are darker outside the crop, which the classifier does not see; "
            "use --fit squash or --fit pad to show it the whole image"
        )
