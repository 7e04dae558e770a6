"""Overlays as files: PNG, JPEG or WebP, in a folder that mirrors those of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Window
from lcam_cli.maps.atomic import cannot_write, human_size
from lcam_cli.maps.display import DISPLAY_NOTE, display_levels, display_limit
from lcam_cli.maps.marks import mark_overlays
from lcam_cli.maps.names import claim_folder, output_name
from lcam_cli.maps.overlay import DEFAULT_ALPHA, DEFAULT_COLORMAP, Colours
from lcam_cli.maps.overlay_work import Overlay, OverlayFormat, OverlayLook, OverlayWork
from lcam_cli.maps.record import Map
from lcam_cli.maps.region import kept_region
from lcam_cli.maps.smooth import smooth_cells
from lcam_cli.maps.syncing import Syncing


@dataclass(frozen=True)
class OverlayStyle:
    """What an overlay looks like.

    Attributes:
        colormap: Any name matplotlib knows.
        alpha: Weight of the colours where V is 1, in [0, 1].
        caption: Whether class name and score stand below the image.
        colorbar: Whether a strip below the image shows the colours, and the window if given.
        window: The values of a file that the image shows as black and as white.
        contour: ν in (0, 100]: the highest ν% of the map are outlined; None for no outline.
        smooth: Whether cells of maps are interpolated by cubics.
        grid: Where the centres of these cells lie, as :func:`~lcam_cli.maps.smooth.smooth_cells`
            takes it.
        to_percentile: Whether colours end at the 99th percentile of a map, as suits maps of single
            pixels; else at 1.
    """

    colormap: str = DEFAULT_COLORMAP
    alpha: float = DEFAULT_ALPHA
    caption: bool = True
    colorbar: bool = False
    window: Window = "auto"
    contour: float | None = None
    smooth: bool = False
    grid: Mapping[str, Any] | None = None
    to_percentile: bool = False


_PLAIN = OverlayStyle()

# Bytes that a disk which has no room for a name lacks at least.
_LEAST = 4096


class OverlayWriter:
    """Writes overlays to a folder that mirrors the folders of the images. Thread-safe.

    A file is whole under its name, or not there, whatever kills the run. It is sure to outlive the
    power too once :meth:`sync` has returned.

    Args:
        folder: The folder to write into; made with its parents.
        picture_format: ``"png"``, ``"jpg"`` or ``"webp"``.
        style: What the overlays look like.
        may_exist: Whether the user asked to resume or to overwrite.
        shared: Whether other processes write there too, each the overlays of other images: then
            what is there is left as it is.

    Raises:
        LcamError: if there is no such colour map, or the folder is not empty or not writable.
    """

    def __init__(
        self,
        folder: Path,
        picture_format: OverlayFormat = "png",
        style: OverlayStyle = _PLAIN,
        *,
        may_exist: bool = False,
        shared: bool = False,
    ) -> None:
        colours = Colours.of(style.colormap, style.alpha)
        if not shared:
            claim_folder(folder, may_exist=may_exist)
        self.folder = folder
        self._look = OverlayLook(colours, picture_format, style.colorbar, style.window)
        self._style = style
        self._marked = False
        self._syncing = Syncing()

    def work(self, rows: Sequence[Map]) -> OverlayWork:
        """Return the work that draws an image's rows, captioned with class and score.

        Raises:
            LcamError: if the disk is full or fails.
        """
        if not self._marked:  # before the first, so that no overlay is taken for an image
            try:
                mark_overlays(self.folder)
            except OSError as error:
                raise self._failed(self.folder, error, 0) from error
            self._marked = True
        return OverlayWork(self._look, [self._overlay(row) for row in rows])

    def take(self, work: OverlayWork, result: str) -> None:
        """Take notice of what came of some work.

        Raises:
            LcamError: if the disk is full or fails.
        """
        if result:
            number, code, size = map(int, result.split())
            target = Path(work.overlays[number].target)
            raise self._failed(target, OSError(code, ""), size)
        for one in work.overlays:
            self._syncing.add(Path(one.target))

    def write(self, picture: Image.Image, row: Map) -> Path:
        """Draw a row over its image and save it, in this process.

        Args:
            picture: The row's image: RGB, upright. It is drawn on.
            row: The map.

        Returns:
            The file written.

        Raises:
            LcamError: if the disk is full or fails.
            BadImageError: if the image is too large for the format.
        """
        work = self.work([row])
        self.take(work, work.do(picture))
        return Path(work.overlays[0].target)

    def sync(self) -> None:
        """Wait until all that was written is on disk.

        Raises:
            LcamError: if the disk is full or fails.
        """
        try:
            self._syncing.wait()
        except OSError as error:
            raise self._failed(self.folder, error, 0) from error

    def close(self) -> None:
        """End the thread that syncs, after what it has to do."""
        self._syncing.close()

    def _overlay(self, row: Map) -> Overlay:
        style = self._style
        V = smooth_cells(row, style.grid) if style.smooth else row.saliency
        limit = display_limit(V) if style.to_percentile else 1.0
        caption = [f"{row.class_name} {row.confidence:.1%}"] if style.caption else []
        if style.caption and style.to_percentile:
            caption.append(f"{DISPLAY_NOTE}, {limit:.2g}")
        name = output_name(row.path, row.class_index, self._look.picture_format)
        return Overlay(
            display_levels(V, limit),
            row.crop_box,
            caption,
            str((self.folder / name).absolute()),
            limit,
            None if style.contour is None else kept_region(row.saliency, style.contour),
        )

    def _failed(self, target: Path, error: OSError, size: int) -> LcamError:
        return cannot_write(
            target,
            error,
            needed=f"at least {human_size(max(size, _LEAST))}",
            hint="free some space, or choose another format or folder for the overlays; "
            "continue what is saved with --resume",
        )
