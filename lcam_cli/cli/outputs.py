"""Where ``lcam explain`` writes: an HDF5 file or a folder of PNGs, and overlays beside either."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from lcam_cli.cli.behind import Behind
from lcam_cli.engine.backbone import Backbone
from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.decoder import read_whole
from lcam_cli.images.find import Found, Skipped
from lcam_cli.locks import lock_file, lock_folder
from lcam_cli.maps.hdf5_layout import Room
from lcam_cli.maps.hdf5_writer import Hdf5Writer
from lcam_cli.maps.overlay import OverlayFormat, OverlayWriter
from lcam_cli.maps.paths import stored_path
from lcam_cli.maps.png import PngWriter
from lcam_cli.maps.record import Map, MapBatch, MapDtype, MapsInfo
from lcam_cli.methods.base import Method

_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


@dataclass(frozen=True)
class OverlayOptions:
    """The overlay options as typed.

    Attributes:
        folder: ``--overlays``; None for none beside an HDF5 file, and for ``DIR/overlays`` beside
            a folder of PNGs.
        picture_format: ``--overlay-format``.
        colormap: ``--colormap``.
        alpha: ``--alpha``.
        caption: ``--caption``.
    """

    folder: Path | None
    picture_format: OverlayFormat
    colormap: str
    alpha: float
    caption: bool


class Outputs:
    """All that one run writes; a context manager, which saves what is done on the way out."""

    def __init__(
        self,
        out: Path,
        backbone: Backbone,
        method: Method,
        found: Found,
        classes_per_picture: int,
        *,
        map_dtype: MapDtype,
        overlay: OverlayOptions,
        max_pixels: int,
        workers: int,
        resume: bool,
        overwrite: bool,
    ) -> None:
        self._out = out
        self._found = found
        self._per_picture = classes_per_picture
        self._max_pixels = max_pixels
        self._behind: Behind[list[Skipped]] = Behind()
        self._drawing = ThreadPoolExecutor(workers, thread_name_prefix="lcam-draw")
        info = maps_info(backbone, method, found.root)
        side = backbone.preprocess.image_size
        to_hdf5 = _is_hdf5(out)
        folder = overlay.folder or (None if to_hdf5 else out / "overlays")
        self._maps: Hdf5Writer | PngWriter
        if to_hdf5:
            self._maps = Hdf5Writer(
                out,
                info,
                size=(side, side),
                room=Room.of(
                    [self.row_path(p) for p in found.paths] + [s.path for s in found.skipped],
                    backbone.class_names,
                    classes_per_picture=classes_per_picture,
                ),
                map_dtype=map_dtype,
                resume=resume,
                overwrite=overwrite,
            )
        else:
            self._maps = PngWriter(out / "maps", info, resume=resume, overwrite=overwrite)
        self._overlays = (
            OverlayWriter(
                folder,
                overlay.picture_format,
                colormap=overlay.colormap,
                alpha=overlay.alpha,
                caption=overlay.caption,
                may_exist=resume or overwrite,
            )
            if folder
            else None
        )

    @property
    def complete(self) -> bool:
        """Whether an earlier run has finished this output."""
        return self._maps.complete

    @property
    def rows(self) -> int:
        """Maps written."""
        return self._maps.rows

    def row_path(self, path: str) -> str:
        """What a picture is called in the rows."""
        return stored_path(path, self._found.root)

    def rewind(self, batch_size: int) -> int:
        """Find where to go on, and drop what an interrupted run has of the batch at that place.

        Whole batches are made again, so that the result does not depend on the interruption.
        Where all is done already, nothing is dropped.

        Returns:
            The number of pictures that are done.

        Raises:
            LcamError: The maps that are there are of other pictures, or in another order.
        """
        done_skipped = self._maps.skipped
        names = [self.row_path(p) for p in self._found.paths]
        unread = {s.path for s in done_skipped}
        last = self._pictures_done(names, unread)
        if self._maps.complete:
            return last
        start = last - last % batch_size
        to_do = set(names[start:])
        self._maps.truncate(
            sum(name not in unread for name in names[:start]) * self._per_picture,
            sum(s.path not in to_do for s in done_skipped) if start else 0,
        )
        return start

    def _pictures_done(self, names: Sequence[str], unread: set[str]) -> int:
        """How many pictures, from the first on, have a row or are noted as unreadable."""
        rows = self._maps.paths[:: self._per_picture]
        row = done = 0
        for name in names:
            if row < len(rows) and rows[row] == name:
                row += 1
            elif name not in unread:
                break
            done += 1
        if row < len(rows):
            instead = f"{names[done]} now" if done < len(names) else "no picture any more"
            raise LcamError(
                f"{self._out} was begun with other pictures: where it has {rows[row]} there is "
                + instead,
                "name the same ones, put back what was there, or use --overwrite or another --out",
            )
        if self._maps.complete and done < len(names):
            raise LcamError(
                f"{self._out} is finished, and has no map of {names[done]}",
                "explain what is new with another --out, or all with --overwrite",
            )
        return done

    def append(self, batch: MapBatch) -> list[Skipped]:
        """Have a batch written to every output, behind the back of what comes next.

        Returns:
            Pictures of earlier batches that have no overlay: they were readable a moment ago and
            no longer are.

        Raises:
            LcamError: The disk is full or fails; nothing is written from that batch on.
        """
        return list(chain(*self._behind.do(partial(self._write, batch))))

    def _write(self, batch: MapBatch) -> list[Skipped]:
        changed = self._write_overlays(batch)
        unread = [Skipped(self.row_path(s.path), s.reason) for s in batch.skipped]
        if not self._maps.rows and not self._maps.skipped:
            unread = self._found.skipped + unread
        self._maps.append(replace(batch, skipped=unread))
        return changed

    def _write_overlays(self, batch: MapBatch) -> list[Skipped]:
        if self._overlays is None:
            return []
        return [item for item in self._drawing.map(self._write_overlay, batch) if item]

    def _write_overlay(self, row: Map) -> Skipped | None:
        assert self._overlays is not None
        source = str(Path(self._found.root) / row.path)
        try:
            self._overlays.write(read_whole(source, self._max_pixels), row)
        except BadImageError as error:
            return Skipped(source, f"no overlay: {error.reason}")
        return None

    def settle(self) -> list[Skipped]:
        """Wait until all that was appended is written; return what :meth:`append` has not."""
        return list(chain(*self._behind.wait()))

    def finish(self) -> None:
        """Mark the output complete, when it is settled."""
        self._maps.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._behind.close()
        self._drawing.shutdown()
        self._maps.__exit__(kind, error, trace)


def locks_of(out: Path, overlays: Path | None) -> list[AbstractContextManager[None]]:
    """The locks that keep other runs off what ``--out`` and ``--overlays`` name."""
    of_maps = lock_file(out) if _is_hdf5(out) else lock_folder(out)
    apart = overlays is not None and overlays.resolve() != out.resolve()
    return [of_maps, *([lock_folder(overlays)] if overlays and apart else [])]


def _is_hdf5(out: Path) -> bool:
    return out.suffix.lower() in _HDF5_SUFFIXES


def maps_info(backbone: Backbone, method: Method, root: str) -> MapsInfo:
    """What all maps of a run have in common."""
    identity = backbone.identity
    return MapsInfo(
        method=method.name,
        method_params={**method.params, "forward_passes": method.forward_passes},
        backbone=identity.name,
        weights=identity.weights,
        weights_file=identity.weights_file,
        layer=identity.layer,
        grid=identity.grid,
        activation=identity.activation,
        preprocess=backbone.preprocess.to_json(),
        root=root,
    )
