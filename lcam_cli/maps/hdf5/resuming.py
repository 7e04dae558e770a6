"""What the shards of an unfinished run hold already, and what is missing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.maps.hdf5.reader import OVERWRITE_HINT, MapsFile
from lcam_cli.maps.record import MapDtype, MapsInfo, Shard


@dataclass(frozen=True)
class ReusablePart:
    """The beginning of a shard, which stays.

    Attributes:
        file: The shard.
        pictures: Those that are done, counted from 0 in the whole run.
        rows: Rows of theirs, the first of the file.
        skipped: The unread inputs up to there, the first of the file.
    """

    file: Path
    pictures: range
    rows: int
    skipped: Sequence[Skipped]


def pictures_done(names: Sequence[str], rows: Sequence[str], unread: set[str]) -> tuple[int, int]:
    """Return how many images, from the first on, are done, and how many of those have a row.

    Args:
        names: What the images are called, in order.
        rows: The names that have rows, in order, each once.
        unread: The names that are noted as unreadable.
    """
    row = done = 0
    for name in names:
        if row < len(rows) and rows[row] == name:
            row += 1
        elif name not in unread:
            break
        done += 1
    return done, row


@dataclass(frozen=True)
class ExpectedRun:
    """A run whose shards are looked through.

    Attributes:
        info: What its files say.
        names: What all its images are called.
        inputs: Of :class:`Shard`.
        per_picture: Rows an image.
        batch: Images a batch.
        size: (H, W) of a saliency map.
        map_dtype: How maps are stored.
    """

    info: MapsInfo
    names: Sequence[str]
    inputs: str
    per_picture: int
    batch: int
    size: tuple[int, int]
    map_dtype: MapDtype

    def reusable_parts(self, files: Iterable[Path]) -> list[ReusablePart]:
        """Return what stays of shards, in order: all of a finished one, else its whole batches.

        Args:
            files: The shards; a file of an unfinished run of one process is one that begins at 0.

        Raises:
            LcamError: One is of another run.
        """
        found = [one for file in files if (one := self._reusable(file)).pictures]
        found.sort(key=lambda one: one.pictures.start)
        for i, (one, following) in enumerate(itertools.pairwise(found)):
            # With other batches, more of it is whole than when the next was begun.
            if one.pictures.stop > following.pictures.start:
                found[i] = self._reusable(one.file, following.pictures.start)
        return found

    def _reusable(self, file: Path, limit: int | None = None) -> ReusablePart:
        with MapsFile(file, hint=OVERWRITE_HINT) as maps:
            whole = Shard(0, len(self.names), len(self.names), self.inputs)
            shard = maps.info.shard or whole
            here = self.names[shard.first : shard.stop]
            rows = maps.paths()[:: self.per_picture]
            unread = {one.path for one in maps.skipped}
            done, with_rows = pictures_done(here, rows, unread)
            self._check(maps, shard, rows[with_rows:])
            if limit is not None:
                done = min(done, limit - shard.first)
            elif done < len(here):
                done -= done % self.batch
            to_do = set(here[done:])
            return ReusablePart(
                file,
                range(shard.first, shard.first + done),
                sum(name not in unread for name in here[:done]) * self.per_picture,
                [one for one in maps.skipped if one.path not in to_do] if done else [],
            )

    def _check(self, maps: MapsFile, shard: Shard, foreign: Sequence[str]) -> None:
        # Which images it is of is looked at apart from the settings.
        same = dataclasses.replace(self.info, shard=maps.info.shard)
        differs = maps.difference(same, self.size, self.map_dtype)
        if not differs and (shard.pictures, shard.inputs) != (len(self.names), self.inputs):
            differs = "they are for other images or classes"
        if not differs and foreign:
            differs = f"instead of {foreign[0]} there is now another image or none"
        if differs:
            raise LcamError(
                f"{maps.path} holds other maps: {differs}",
                "use the same images and settings, or pass --overwrite or another --out",
            )
