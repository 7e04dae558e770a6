"""Where ``lcam explain`` writes: an HDF5 file or a folder of PNGs, and overlays beside either."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from types import TracebackType
from typing import Self

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.images.picture_tasks import PictureTasks
from lcam_cli.images.read import MAX_PIXELS
from lcam_cli.locks import lock_file, lock_folder
from lcam_cli.maps.flat import FlatSummary
from lcam_cli.maps.hdf5.layout import Capacity
from lcam_cli.maps.hdf5.resuming import pictures_done
from lcam_cli.maps.hdf5.writer import Hdf5Writer
from lcam_cli.maps.overlay_writer import OverlayStyle, OverlayWriter
from lcam_cli.maps.paths import stored_path
from lcam_cli.maps.png import PngWriter
from lcam_cli.maps.record import Map, MapBatch, MapsInfo
from lcam_cli.methods.base import Method
from lcam_cli.methods.explain import ClassChoice
from lcam_cli.methods.registry import is_of_pixels
from lcam_cli.reports.regions import DEFAULT_NU, RegionsFile
from lcam_cli.runs.background import BackgroundCalls
from lcam_cli.runs.budget import Budget
from lcam_cli.runs.explain_options import ExplainOptions
from lcam_cli.runs.explain_task import ExplainTask, Part
from lcam_cli.runs.options import OverlayOptions
from lcam_cli.runs.targets import is_hdf5
from lcam_cli.threads import in_this_context
from lcam_cli.working_folder import absolute

_PIXELS_DRAWN_AT_ONCE = 1 << 26
_SECOND_NAME = " (lcam 0.1.0 skipped an image's second name, which now has its own row)"


class Outputs:
    """All that is written of a part of a task; a context manager, which saves on the way out.

    Args:
        part: Which images, and where to.
        task: What is explained, and how.
        options: What is stored and drawn, and what becomes of what is there.
        workers: Processes that read images, and draw.

    Attributes:
        paths: The part's images.
        skipped_inputs: Inputs before its first image that lead nowhere.
        tasks: What has the overlays drawn, by the processes that read the images; None without.
    """

    def __init__(
        self, part: Part, task: ExplainTask, options: ExplainOptions, workers: int
    ) -> None:
        found, backbone, overlay = task.found, task.engine.backbone, options.overlays
        here = slice(part.pictures.start, part.pictures.stop)
        self.paths, self._names = found.paths[here], task.names[here]
        out = self._out = part.out
        self._root = found.root
        self.skipped_inputs = [] if part.pictures.start else found.skipped
        self._per_picture = task.choice.per_picture
        self._background: BackgroundCalls[list[Skipped]] = BackgroundCalls()
        # An image is drawn by the process that keeps it. With a thread a process, several would
        # often wait for the same one while the others have nothing to do.
        self._drawing = ThreadPoolExecutor(4 * workers, thread_name_prefix="lcam-draw")
        self._drawn_at_once = Budget(_PIXELS_DRAWN_AT_ONCE)
        info = maps_info(task.engine, task.method, found.root, task.choice)
        info = replace(info, shard=part.shard)
        to_hdf5 = is_hdf5(out)
        folder = overlay.folder or (None if to_hdf5 else out / "overlays")
        resume, overwrite = options.resume, options.overwrite
        # A resumed file is flushed while it is opened, before these exist.
        self._overlays: OverlayWriter | None = None
        self._regions: RegionsFile | None = None
        self._maps: Hdf5Writer | PngWriter
        if to_hdf5:
            self._maps = Hdf5Writer(
                out,
                info,
                size=backbone.preprocess.input_shape[1:],
                capacity=self._capacity(task.names, found.skipped, backbone.class_names),
                map_dtype=options.map_dtype,
                resume=resume,
                overwrite=overwrite,
                before_flush=self._sync,
            )
        else:
            self._maps = PngWriter(
                out / "maps",
                info,
                resume=resume,
                overwrite=overwrite,
                map_format=options.map_format,
                map_size=options.map_size,
                before_lines=self._sync,
            )
        self._overlays = (
            OverlayWriter(
                folder,
                overlay.picture_format,
                _style(overlay, task),
                may_exist=resume or overwrite,
                shared=part.shard is not None,
            )
            if folder
            else None
        )
        self._regions = (
            RegionsFile(
                options.regions,
                overlay.contour or DEFAULT_NU,
                {"method": info.method, "backbone": info.backbone, "weights": info.weights},
                resume=resume,
                overwrite=overwrite,
            )
            if options.regions
            else None
        )
        self.tasks = (
            PictureTasks(backbone.preprocess, options.engine.max_pixels or MAX_PIXELS, workers)
            if folder
            else None
        )

    def _capacity(
        self, names: Sequence[str], skipped: Sequence[Skipped], class_names: Sequence[str]
    ) -> Capacity:
        """For the part's rows; names are as wide as the whole run's, for shards to fit together."""
        inputs = [*self._names, *(s.path for s in self.skipped_inputs)]
        capacity = Capacity.of(inputs, class_names, classes_per_picture=self._per_picture)
        widest = Capacity.of([*names, *(s.path for s in skipped)], ())
        return replace(capacity, path_bytes=widest.path_bytes)

    @property
    def complete(self) -> bool:
        """Whether an earlier run has finished this output."""
        return self._maps.complete

    @property
    def rows(self) -> int:
        """Maps written."""
        return self._maps.rows

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be read so far, by its name in the rows."""
        return list(self._maps.skipped)

    def flat(self) -> FlatSummary | None:
        """The flat maps of a finished output; None where there are none."""
        return self._maps.flat_summary()

    def row_path(self, path: str) -> str:
        """What an image is called in the rows."""
        return stored_path(path, self._root)

    def rewind(self, batch_size: int) -> int:
        """Find where to go on, and drop what an interrupted run has of the batch at that place.

        Whole batches are made again, so that the result does not depend on the interruption.
        Where all is done already, nothing is dropped.

        Returns:
            The number of images that are done.

        Raises:
            LcamError: The maps that are there are of other images, or in another order.
        """
        done_skipped = self._maps.skipped
        names = self._names
        unread = {s.path for s in done_skipped}
        last = self._pictures_done(names, unread)
        if self._maps.complete:
            if self._regions is not None:
                self._regions.rewind(self._maps.rows, complete=True)
            return last
        start = last - last % batch_size
        to_do = set(names[start:])
        self._maps.truncate(
            sum(name not in unread for name in names[:start]) * self._per_picture,
            sum(s.path not in to_do for s in done_skipped) if start else 0,
        )
        if self._regions is not None:
            self._regions.rewind(self._maps.rows)
        return start

    def _pictures_done(self, names: Sequence[str], unread: set[str]) -> int:
        """How many images, from the first on, have a row or are noted as unreadable."""
        rows = self._maps.paths[:: self._per_picture]
        done, row = pictures_done(names, rows, unread)
        if row < len(rows):
            instead = f"{names[done]} now" if done < len(names) else "no image now"
            raise LcamError(
                f"{self._out} was started with other images: instead of {rows[row]} there is "
                + instead,
                "pass the same images, restore what was there, or pass --overwrite or another --out"
                + (_SECOND_NAME if self._is_second_name(done) else ""),
            )
        if self._maps.complete and done < len(names):
            raise LcamError(
                f"{self._out} is finished but has no map of {names[done]}",
                "explain the new images with another --out, or all images with --overwrite"
                + (_SECOND_NAME if self._is_second_name(done) else ""),
            )
        return done

    def _is_second_name(self, index: int) -> bool:
        """Whether an image is an earlier one under another name."""
        if index >= len(self.paths):
            return False
        real = os.path.realpath(absolute(self.paths[index]))
        return any(os.path.realpath(absolute(path)) == real for path in self.paths[:index])

    def append(self, batch: MapBatch) -> list[Skipped]:
        """Have a batch written to every output, while the next one is computed.

        Returns:
            Images of earlier batches that have no overlay: they were readable a moment ago and
            no longer are.

        Raises:
            LcamError: The disk is full or fails; nothing is written from that batch on.
        """
        return list(chain(*self._background.do(partial(self._write, batch, self._begin(batch)))))

    def _write(self, batch: MapBatch, drawn: Callable[[], list[Skipped]]) -> list[Skipped]:
        changed = drawn()
        unread = [Skipped(self.row_path(s.path), s.reason) for s in batch.skipped]
        if not self._maps.rows and not self._maps.skipped:
            unread = self.skipped_inputs + unread
        if self._regions is not None:
            self._regions.append(batch)
        self._maps.append(replace(batch, skipped=unread))
        return changed

    def _begin(self, batch: MapBatch) -> Callable[[], list[Skipped]]:
        """Begin to draw a batch, also while an earlier one is drawn; what comes back waits."""
        overlays, tasks = self._overlays, self.tasks
        if overlays is None or tasks is None:
            return list
        # An image's classes lie side by side.
        pictures = [list(rows) for _, rows in groupby(batch, lambda row: row.path)]
        first = tasks.first_of([self._source(rows[0]) for rows in pictures])
        draw = in_this_context(partial(self._draw, overlays, tasks))
        drawing = [self._drawing.submit(draw, rows) for rows in pictures]

        def drawn() -> list[Skipped]:
            if first is not None:  # all earlier batches are drawn
                tasks.forget_before(first)
            return [item for one in drawing if (item := one.result())]

        return drawn

    def _sync(self) -> None:
        """A row says that its overlay and regions are there: no resumed run makes them again."""
        if self._overlays is not None:
            self._overlays.sync()
        if self._regions is not None:
            self._regions.sync()

    def _draw(
        self, overlays: OverlayWriter, tasks: PictureTasks, rows: list[Map]
    ) -> Skipped | None:
        source = self._source(rows[0])
        # The network sees the centre, so the image is as large as both margins and the crop.
        x0, y0, x1, y1 = rows[0].crop_box
        pixels = round((x0 + x1) * (y0 + y1))
        try:
            with self._drawn_at_once.taking(pixels):
                work = overlays.work(rows)
                overlays.take(work, tasks.do(source, work))
        except BadImageError as error:
            return Skipped(source, f"no overlay: {error.reason}")
        return None

    def _source(self, row: Map) -> str:
        return str(Path(self._root) / row.path)

    def settle(self) -> list[Skipped]:
        """Wait until all that was appended is written; return what :meth:`append` has not."""
        return list(chain(*self._background.wait()))

    def finish(self) -> None:
        """Mark the output complete, when it is settled; also one that an earlier run completed."""
        if not self._maps.complete:
            self._maps.finish()
        if self._regions is not None:
            self._regions.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._background.close()
        self._drawing.shutdown(cancel_futures=True)  # some are left where an earlier one failed
        try:
            self._maps.__exit__(kind, error, trace)
        finally:
            if self._overlays is not None:
                self._overlays.close()
            if self._regions is not None:
                self._regions.close()


def locks_of(
    out: Path, overlays: Path | None, regions: Path | None
) -> list[AbstractContextManager[None]]:
    """The locks that keep other runs off what ``--out``, ``--overlays``, ``--regions`` name."""
    of_maps = lock_file(out) if is_hdf5(out) else lock_folder(out)
    apart = overlays is not None and overlays.resolve() != out.resolve()
    of_overlays = [lock_folder(overlays)] if overlays and apart else []
    return [of_maps, *of_overlays, *([lock_file(regions)] if regions else [])]


def check_shared(out: Path) -> None:
    """Refuse an ``--out`` that several processes cannot write to.

    Raises:
        LcamError: It is a folder of PNGs.
    """
    if not is_hdf5(out):
        raise LcamError(
            f"{out} is a folder, which several processes cannot share",
            "pass a maps file, e.g. --out maps.h5",
        )


def _style(overlay: OverlayOptions, task: ExplainTask) -> OverlayStyle:
    return OverlayStyle(
        overlay.colormap,
        overlay.alpha,
        overlay.caption,
        overlay.colorbar,
        task.engine.backbone.preprocess.window,
        overlay.contour,
        overlay.smooth,
        task.method.params.get("grid"),
        is_of_pixels(task.method.name),
    )


def maps_info(engine: Engine, method: Method, root: str, choice: ClassChoice) -> MapsInfo:
    """What all maps of a run have in common."""
    backbone, identity = engine.backbone, engine.backbone.identity
    return MapsInfo(
        method=method.name,
        method_params={**method.params, "forward_passes": method.forward_passes},
        backbone=identity.name,
        weights=identity.weights,
        weights_file=identity.weights_file,
        layer=identity.layer,
        grid=identity.grid,
        activation=identity.activation,
        output=identity.output,
        probabilities=identity.probabilities,
        precision=engine.hardware.precision,
        preprocess=backbone.preprocess.to_json(),
        root=root,
        classes=tuple(backbone.class_names),
        classes_explained=choice.to_json(),
    )
