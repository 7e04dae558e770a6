"""Where this process stands among those that torchrun started; known before torch is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lcam_cli.errors import LcamError

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class RankInfo:
    """One process of a run.

    Attributes:
        rank: Its number, from 0.
        size: Processes in all.
        local_rank: Its number on this machine.
        local_size: Processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def of_environment(cls) -> RankInfo:
        """Return what the variables that torchrun sets say; without them, a process alone.

        Raises:
            LcamError: They say it in part.
        """
        if "MASTER_ADDR" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
            return cls()
        # Who sets up the meeting by hand may leave the local ones out, on one machine.
        own = {"LOCAL_RANK": os.environ.get("RANK"), "LOCAL_WORLD_SIZE": os.environ["WORLD_SIZE"]}
        said = {name: os.environ.get(name, own.get(name)) for name in _VARIABLES}
        try:
            rank, size, local_rank, local_size = (int(said[name] or "") for name in _VARIABLES)
        except ValueError:
            raise LcamError(
                f"these variables do not say which rank this is: {said}",
                "start the ranks with torchrun",
            ) from None
        return cls(rank, size, local_rank, local_size)

    @property
    def cores(self) -> int:
        """This process's share of the machine's cores, at least one."""
        have = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
        return max(1, (len(have) or os.cpu_count() or 1) // self.local_size)
