"""The processes of one run: how they talk to each other, and that none waits for the dead.

torchrun, or whoever sets its variables, brings them together; PyTorch's store and process group
carry what they say. Beside its work every rank writes a heartbeat to the store every two seconds,
and reads those of the others. So each knows within a minute when one has died, fails or hangs,
whatever it is waiting for itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from lcam_cli.errors import LcamError
from lcam_cli.scale.rank_info import RankInfo

T = TypeVar("T")

HEARTBEAT_INTERVAL = 2.0
"""Seconds between two heartbeats of a rank."""
HEARTBEAT_TIMEOUT = 30.0
"""Seconds without a new heartbeat after which a rank is taken to have died or to hang."""
GRACE_PERIOD = 15.0
"""Seconds that the work has to stop by itself, when another rank is lost."""

_SECONDS_TO_MEET = 300.0
_COLLECTIVE_TIMEOUT = 1800.0
RESUME = "continue with the same command and --resume"
_LOST = 2
# torchrun's agent, where there is one, is the meeting place; the first rank otherwise.
_HAS_AGENT = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


@dataclass(frozen=True)
class Heartbeat:
    """What a rank says of itself, for the others to read.

    Attributes:
        process: Its number.
        machine: Its host, and the space that process numbers count in there.
        beat: Counts up.
        done: Images.
        skipped: Inputs that it could not read.
        state: ``"at work"``, ``"finished"``, or else the reason why it ended.
    """

    process: int
    machine: str
    beat: int = 0
    done: int = 0
    skipped: int = 0
    state: str = "at work"


class Exit(Exception):  # noqa: N818 (the user asked for it)
    """Leaves the block of :func:`together` before the work is done; the others learn of it."""


class Ranks:
    """A run of one process: there is nobody to wait for."""

    def __init__(self, rank_info: RankInfo) -> None:
        self.info = rank_info
        self._advance: Callable[[int], None] = lambda _done: None

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that prints and joins."""
        return self.info.rank == 0

    @property
    def lost(self) -> str:
        """Why the run cannot go on; empty while all ranks are well."""
        return ""

    def share(self, make: Callable[[], T]) -> T:
        """Return what the first rank makes, on all of them."""
        return make()

    def advance(self, done: int) -> None:
        """Note that so many more images are done."""
        self._advance(done)

    def show(self, advance: Callable[[int], None]) -> None:
        """Call ``advance`` with the images that any rank has done, as they are done."""
        self._advance = advance

    def finish(self, skipped: int) -> None:
        """Publish that this rank's work is done, and that it left out so many inputs."""

    def wait_for_others(self, stop: Callable[[], bool]) -> int:
        """Wait until all other ranks have finished, or ``stop()``.

        Returns:
            How many inputs they left out.

        Raises:
            LcamError: One did not finish.
        """
        return 0

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Wrap what all ranks do together: where it fails, the error names the rank that was lost.

        Raises:
            LcamError: A rank was lost.
        """
        yield


class _ConnectedRanks(Ranks):
    """One of several ranks."""

    def __init__(self, rank_info: RankInfo, store: Store) -> None:
        super().__init__(rank_info)
        self._store = store
        self._own = Heartbeat(os.getpid(), _machine())
        self._lost = ""
        self._heartbeats: dict[int, Heartbeat] = {}
        # In looks of this process: one that was stopped for an hour, as with Ctrl-Z, did not look.
        self._missed = dict.fromkeys(range(rank_info.size), 0)
        self._missed_by_store = 0
        self._shown = 0
        self._changed = threading.Condition()
        self._ended = False
        self._publish()
        # Two: the store answers no more when its host hangs, and that must be noticed too.
        self._threads = [
            threading.Thread(target=work, name="lcam-ranks", daemon=True)
            for work in (self._exchange, self._watch)
        ]

    @property
    def lost(self) -> str:
        """See :class:`Ranks`."""
        if not self._lost:  # a signal may come sooner than the next look
            with contextlib.suppress(RuntimeError, OSError):
                self._set_lost(self._find_dead())
        return self._lost

    def start(self) -> None:
        """Begin to watch the others, who have all published a heartbeat."""
        self._read()
        for thread in self._threads:
            thread.start()

    def share(self, make: Callable[[], T]) -> T:
        """See :class:`Ranks`."""
        value = [make() if self.is_first else None]
        with self.collective():
            dist.broadcast_object_list(value, src=0, device=torch.device("cpu"))
        return value[0]  # type: ignore[return-value]

    def advance(self, done: int) -> None:
        """See :class:`Ranks`."""
        with self._changed:
            self._own = replace(self._own, done=self._own.done + done)

    def finish(self, skipped: int) -> None:
        """See :class:`Ranks`."""
        self._end("finished", skipped)

    def wait_for_others(self, stop: Callable[[], bool]) -> int:
        """See :class:`Ranks`."""
        while not (self._lost or stop() or self._all_finished()):
            with self._changed:
                self._changed.wait(HEARTBEAT_INTERVAL / 4)
        if self.lost:
            raise LcamError(self.lost, RESUME)
        return sum(heartbeat.skipped for heartbeat in self._heartbeats.values()) - self._own.skipped

    @contextmanager
    def collective(self) -> Iterator[None]:
        """See :class:`Ranks`."""
        try:
            yield
        except (RuntimeError, OSError) as error:  # the engine's errors are RuntimeErrors
            with self._changed:
                self._changed.wait_for(
                    lambda: self._lost, HEARTBEAT_TIMEOUT + 2 * HEARTBEAT_INTERVAL
                )
            why = self._lost or f"the ranks lost each other: {str(error).splitlines()[0]}"
            raise LcamError(why, RESUME) from error

    def close(self, error: BaseException | None) -> None:
        """Publish how this rank ends, unless it has already, and stop watching."""
        if error is None:
            self._end("finished", self._own.skipped)
        elif isinstance(error, LcamError):
            self._end(error.what, 0)
        else:
            self._end(f"interrupted ({type(error).__name__})", 0)
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(HEARTBEAT_INTERVAL)
        if error is not None and self.is_first and not _HAS_AGENT:
            time.sleep(
                2 * HEARTBEAT_INTERVAL
            )  # this process is the meeting place: let the others read why

    def _end(self, state: str, skipped: int) -> None:
        with self._changed:
            if self._own.state == "at work":
                self._own = replace(self._own, state=state, skipped=skipped)
        with contextlib.suppress(RuntimeError, OSError):  # its host may be what was lost
            self._publish()

    def _publish(self) -> None:
        with self._changed:
            heartbeat = self._own = replace(self._own, beat=self._own.beat + 1)
        self._store.set(_key(self.info.rank), json.dumps(asdict(heartbeat)))

    def _exchange(self) -> None:
        """Tell and listen, until this rank ends or another is lost."""
        while not self._has_ended(HEARTBEAT_INTERVAL) and not self._lost:
            try:
                self._publish()
                self._read()
            except (RuntimeError, OSError) as error:
                self._set_lost(
                    f"{self._store_host()} cannot be reached: {str(error).splitlines()[0]}"
                )

    def _watch(self) -> None:
        """See that the others say something; end this process if it does not end by itself."""
        while not self._lost:
            if self._has_ended(HEARTBEAT_INTERVAL):
                return
            with self._changed:
                self._missed_by_store += 1
                self._missed = {rank: looks + 1 for rank, looks in self._missed.items()}
            self._set_lost(self._find_silent())
        with self._changed:
            self._changed.notify_all()
        if not self._has_ended(
            GRACE_PERIOD
        ):  # it waits for the dead, or is in the middle of a long batch
            os.write(2, f"error: {self._lost}\n{RESUME}\n".encode())
            os._exit(_LOST)

    def _has_ended(self, within: float) -> bool:
        """Whether this rank ends within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, within)

    def _store_host(self) -> str:
        host = "torchrun on the first machine" if _HAS_AGENT else _name(0, self._heartbeats[0])
        return f"{host}, where the ranks meet,"

    def _read(self) -> None:
        size = self.info.size
        received = [
            json.loads(one) for one in self._store.multi_get([_key(r) for r in range(size)])
        ]
        with self._changed:
            self._missed_by_store = 0
            for rank, values in enumerate(received):
                heartbeat = Heartbeat(**values)
                if heartbeat != self._heartbeats.get(rank):
                    self._missed[rank] = 0
                self._heartbeats[rank] = heartbeat
        self._set_lost(self._find_dead())
        done = sum(heartbeat.done for heartbeat in self._heartbeats.values())
        if done > self._shown:
            self._advance(done - self._shown)
            self._shown = done
        with self._changed:
            self._changed.notify_all()

    def _set_lost(self, why: str) -> None:
        if why and not self._lost:
            self._lost = why

    def _find_dead(self) -> str:
        """Name a rank that ended before its work was done; empty where none did."""
        for rank, latest in self._heartbeats.items():
            heartbeat = latest
            dead = heartbeat.machine == self._own.machine and not _is_alive(heartbeat.process)
            if dead:  # it may have published its end since
                heartbeat = Heartbeat(**json.loads(self._store.get(_key(rank))))
            if heartbeat.state not in ("at work", "finished"):
                return f"{_name(rank, heartbeat)} ended: {heartbeat.state}"
            if dead and heartbeat.state == "at work":
                return f"{_name(rank, heartbeat)} died"
        return ""

    def _find_silent(self) -> str:
        """Name who has said nothing for too long; empty where none has."""
        if self._missed_by_store * HEARTBEAT_INTERVAL > HEARTBEAT_TIMEOUT:
            return f"{self._store_host()} did not respond for {HEARTBEAT_TIMEOUT:.0f} s"
        for rank, heartbeat in self._heartbeats.items():
            if (
                heartbeat.state == "at work"
                and self._missed[rank] * HEARTBEAT_INTERVAL > HEARTBEAT_TIMEOUT
            ):
                return f"{_name(rank, heartbeat)} did not respond for {HEARTBEAT_TIMEOUT:.0f} s"
        return ""

    def _all_finished(self) -> bool:
        others = (r for r in range(self.info.size) if r != self.info.rank)
        return all(
            r in self._heartbeats and self._heartbeats[r].state == "finished" for r in others
        )


@contextmanager
def together(rank_info: RankInfo, device: str) -> Iterator[Ranks]:
    """Meet the other ranks; in the block they watch each other. :class:`Exit` ends it.

    Args:
        rank_info: Where this process stands.
        device: ``"cuda"`` where GPUs talk to each other, too.

    Raises:
        LcamError: They do not meet within five minutes.
    """
    if rank_info.size == 1:
        with contextlib.suppress(Exit):
            yield Ranks(rank_info)
        return
    torch.set_num_threads(rank_info.cores)  # torchrun leaves one to each
    ranks = _meet(rank_info, device)
    ranks.start()
    try:
        yield ranks
    except BaseException as error:
        ranks.close(error)
        if isinstance(error, Exit):
            return
        raise
    ranks.close(None)
    dist.destroy_process_group()


def _meet(rank_info: RankInfo, device: str) -> _ConnectedRanks:
    meeting = timedelta(seconds=_SECONDS_TO_MEET)
    try:
        store, _, _ = next(rendezvous("env://", timeout=meeting))
        ranks = _ConnectedRanks(rank_info, PrefixStore("lcam", store))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo",
            store=PrefixStore("group", store),
            rank=rank_info.rank,
            world_size=rank_info.size,
            timeout=timedelta(seconds=_COLLECTIVE_TIMEOUT),
        )
        # Nobody comes here before all have published a heartbeat.
        store.set_timeout(timedelta(seconds=HEARTBEAT_TIMEOUT))
    except (RuntimeError, ValueError, OSError) as error:
        raise LcamError(
            f"the {rank_info.size} ranks could not connect: {str(error).splitlines()[0]}",
            "start them with torchrun, all with the same rendezvous options",
        ) from error
    return ranks


def device_of(rank_info: RankInfo, wanted: str) -> str:
    """Return the device of this rank: each has a GPU of its own.

    Args:
        rank_info: Where this process stands.
        wanted: ``--device``.

    Raises:
        LcamError: There are fewer GPUs than ranks on this machine, or one is named for all.
    """
    if rank_info.size == 1 or not (wanted.startswith("cuda") or wanted == "auto"):
        return wanted
    if wanted.startswith("cuda:") and rank_info.local_size > 1:
        raise LcamError(f"--device {wanted} is one GPU for all ranks", "use --device cuda")
    count = torch.cuda.device_count()
    if wanted == "auto" and not count:
        return "cpu"
    if count < rank_info.local_size:
        raise LcamError(
            f"{rank_info.local_size} ranks and {count} GPUs on this machine",
            f"use --nproc-per-node {count}" if count else "use --device cpu",
        )
    index = 0 if rank_info.local_size == 1 and count == 1 else rank_info.local_rank
    torch.cuda.set_device(index)
    return f"cuda:{index}"


def _key(rank: int) -> str:
    return f"rank/{rank}"


def _name(rank: int, heartbeat: Heartbeat) -> str:
    return f"rank {rank} (process {heartbeat.process} on {heartbeat.machine.split()[0]})"


def _machine() -> str:
    """The host, and what distinguishes containers on it that count processes for themselves."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no file)
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
