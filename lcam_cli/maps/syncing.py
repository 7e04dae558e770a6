"""Bringing many small files to the disk, behind the back of those who write them."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from lcam_cli.maps.atomic import sync, sync_folder


class Syncing:
    """Syncs files that were written under their final names, one after the other, in a thread.

    Several threads may :meth:`add` while one waits: it waits for what was added before it began.
    What must not outlive them, such as the rows that say that they are done, waits for
    :meth:`wait`. A sync a file, at once, costs the writer as long as the writing.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lcam-sync")
        self._pending: list[Future[None]] = []
        self._folders: set[Path] = set()
        self._lock = threading.Lock()
        self._error: OSError | None = None

    def add(self, path: Path) -> None:
        """Have a file synced; its folder is with :meth:`wait`."""
        with self._lock:
            self._folders.add(path.parent)
            self._pending.append(self._pool.submit(_sync_if_there, path))

    def wait(self) -> None:
        """Wait until all files are on disk, under their names.

        Raises:
            OSError: One cannot be, now or at an earlier call: what is lost stays lost.
        """
        if self._error is not None:
            raise self._error
        with self._lock:
            pending, self._pending = self._pending, []
            folders, self._folders = self._folders, set()
        try:
            for one in pending:
                one.result()
            for folder in folders:
                sync_folder(folder)
        except OSError as error:
            self._error = error
            raise

    def close(self) -> None:
        """End the thread, after what it has to do."""
        self._pool.shutdown()


def _sync_if_there(path: Path) -> None:
    try:
        sync(path)
    except FileNotFoundError:  # somebody has taken it away since
        return
