"""The processes that read images, started before torch is imported, which takes longer."""

from __future__ import annotations

from lcam_cli.scale.rank_info import RankInfo

_AUTO_AT_MOST = 16


def start_readers(workers: int | None) -> int:
    """Start reading processes, as many as asked for or one a core of ours; return how many."""
    from lcam_cli.images.decoder import start_decoders  # noqa: PLC0415 (a command may need none)

    count = workers or min(RankInfo.of_environment().cores, _AUTO_AT_MOST)
    start_decoders(count)
    return count
