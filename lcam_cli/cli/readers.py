"""The processes that read pictures, started before torch is imported, which takes longer."""

from __future__ import annotations

import os

_AUTO_AT_MOST = 16


def start_readers(workers: int | None) -> int:
    """Start reading processes, as many as asked for or one a core; return how many."""
    from lcam_cli.images.decoder import start_decoders

    count = workers or min(os.cpu_count() or 1, _AUTO_AT_MOST)
    start_decoders(count)
    return count
