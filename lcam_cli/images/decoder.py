"""Processes that read images, seen from the program that wants them.

Decoders are large C libraries, and files come from strangers. In a process of its own a decoder
that crashes or hangs loses one image; the next is read by a new process.
"""
# Paths stay strings, as in find.py.
# ruff: noqa: PTH100

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from PIL import Image

from lcam_cli.errors import BadImageError, LcamError
from lcam_cli.images.depth import narrow_pictures
from lcam_cli.images.formats import decoder_of
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.images.request import (
    CountRequest,
    PictureTask,
    Request,
    View,
    read_answer,
    read_count,
    read_done,
)
from lcam_cli.images.tars import locate
from lcam_cli.working_folder import absolute

TIMEOUT = 60.0
"""Seconds after which an image is given up."""

_SECONDS_TO_START = 120.0
_FEWER = "free some memory, or ask for fewer with --workers"
# The process's modules come from where ours do, and from no folder besides.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from lcam_cli.images.worker import main; main(float(sys.argv[2]))"
)

# Its arithmetic is small: threads and their buffers would only cost. Arrow's own allocator takes a
# gigabyte at once, the system's what is asked for.
_SMALL = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}

# glibc hands the memory of an image back to the system, and the next has it made anew: a sixth of
# the time of a small deep image. These are the bounds that glibc raises its own to as it meets
# large images; bytes.
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
}

Q = TypeVar("Q", Request, CountRequest, PictureTask)
A = TypeVar("A")


# Guards the lists of processes below. Each process has a condition of its own besides, so that a
# process that becomes free wakes one thread, and not all.
_lock = threading.Lock()
_changed = threading.Condition(_lock)


class _EndedError(Exception):
    """The process has closed its pipe."""


class Decoder:
    """One process that reads images, one at a time.

    Starting returns at once; the first image waits until the process is ready.
    """

    def __init__(self) -> None:
        words = [sys.executable, "-P", "-c", _START]
        words += [json.dumps([os.path.abspath(entry) for entry in sys.path]), str(TIMEOUT + 5)]
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                cwd=os.sep,
                # Ctrl-C in a terminal reaches its whole process group. Reading goes on behind it,
                # so that the batch at hand can be finished.
                process_group=0,
                env={**_KEPT_MEMORY, **os.environ, **_SMALL},
            )
        except OSError as error:
            raise LcamError(
                f"cannot start a process that reads images: {error.strerror}", _FEWER
            ) from None
        self._ready = self._failed = self._closed = False
        # Says when it is free, to those who need this very process.
        self.freed = threading.Condition(_lock)

    @property
    def usable(self) -> bool:
        """Whether the process can be asked."""
        return not self._failed and self._process.poll() is None

    @property
    def ended(self) -> bool:
        """Whether the process is gone, or is let go of."""
        return self._closed or self._process.poll() is not None

    def read(self, request: Request) -> View:
        """Return the view that is asked for.

        Raises:
            BadImageError: The image cannot be read, or crashed the process, or took too long.
            LcamError: The process did not start.
            RuntimeError: A mistake of ours.
        """
        view, levels = self._ask(_located(request), read_answer)
        if levels is not None:
            narrow_pictures.add(request.path, levels)
        return view

    def count(self, path: str) -> tuple[int, str]:
        """Return how many images a file says it holds, and what to say about it, if anything.

        Raises as :meth:`read` does.
        """
        at = locate(absolute(path))
        return self._ask(CountRequest(at.file, at.place, at.name), read_count)

    def do(self, task: PictureTask) -> str:
        """Have something done with a whole image; return what came of it.

        Raises as :meth:`read` does.
        """
        return self._ask(replace(task, request=_located(task.request)), read_done)

    def _ask(self, request: Q, read: Callable[[Q, Callable[[memoryview], None]], A]) -> A:
        """Hand on a request and read its answer."""
        if not self._ready:
            self._wait_until_ready()
        assert self._process.stdin is not None
        self._failed = True  # unless it gets to its answer's end
        try:
            self._send(pickle.dumps(request))
            answer = read(request, self._receive)
        except (_EndedError, BrokenPipeError):
            raise BadImageError(
                f"{decoder_of(request.name)} crashed ({self._cause_of_death()})"
            ) from None
        except TimeoutError:
            raise BadImageError(
                f"{decoder_of(request.name)} hung and was stopped after {TIMEOUT:g} s"
            ) from None
        except BadImageError:
            self._failed = False
            raise
        self._failed = False
        return answer

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(message)
        while rest:  # a signal may cut a write short
            rest = rest[self._process.stdin.write(rest) :]

    def kill(self) -> None:
        """End the process at once; whoever waits for its answer sees it crash."""
        self._process.kill()

    def close(self) -> None:
        """End the process and release its pipes."""
        self._closed = True
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # where a file system hangs
            self._process.wait(1)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _wait_until_ready(self) -> None:
        byte = bytearray(1)
        try:
            self._receive(memoryview(byte), _SECONDS_TO_START)
        except (_EndedError, TimeoutError):
            self._failed = True
            self.kill()
            raise LcamError(
                f"the process that reads images did not start ({self._cause_of_death()})",
                _FEWER,
            ) from None
        self._ready = True

    def _receive(self, buffer: memoryview, timeout: float | None = None) -> None:
        """Fill the buffer.

        The time allowed is that without any news, not that of the whole answer: who was stopped
        with Ctrl-Z for an hour finds the answer waiting.
        """
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while buffer:
            if not poll.poll(1000 * (TIMEOUT if timeout is None else timeout)):
                raise TimeoutError
            count = os.readv(pipe, [buffer])
            if count == 0:
                raise _EndedError
            buffer = buffer[count:]

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _located(request: Request) -> Request:
    """Return a request as a process understands it, whose working folder is another."""
    at = locate(absolute(request.path))
    return replace(request, path=at.file, place=at.place, name=at.name, number=at.number)


_idle: list[Decoder] = []
_awaited: list[Decoder] = []
"""Those that somebody needs, and no other: they are lent to nobody else meanwhile."""

_lent_again: set[Decoder] = set()


def start_decoders(count: int) -> None:
    """Start processes ahead of their use, e.g. while the network is being built."""
    with _changed:
        _idle.extend(Decoder() for _ in range(count - len(_idle)))
        _changed.notify_all()


def idle_decoders() -> int:
    """Return how many processes wait for work."""
    with _changed:
        return len(_idle)


@contextlib.contextmanager
def borrowed_decoder() -> Iterator[Decoder]:
    """Lend a process that nobody uses, a new one if there is none.

    They live on between streams: training makes a stream an epoch. While processes are at work on
    images that they have kept, one of these is waited for: more processes than cores gain
    nothing.
    """
    with _changed:
        decoder = None
        while decoder is None:
            decoder = next((one for one in reversed(_idle) if one not in _awaited), None)
            if decoder is not None:
                _idle.remove(decoder)
                if not decoder.usable:
                    decoder.close()
                    decoder = None
            elif _lent_again or _awaited:
                _changed.wait()
            else:
                break
    decoder = decoder or Decoder()
    try:
        yield decoder
    finally:
        _give_back(decoder)


@contextlib.contextmanager
def borrowed_again(decoder: Decoder) -> Iterator[Decoder | None]:
    """Lend this process, which has kept something; None where it has ended.

    Waits while it is lent to somebody else; it comes here next.
    """
    there = False
    with _changed:
        _awaited.append(decoder)
        try:
            # Whether it is usable only tells who has it: it is not while it is at work.
            decoder.freed.wait_for(lambda: decoder in _idle or decoder.ended)
            there = decoder in _idle and decoder.usable
            if there:
                _idle.remove(decoder)
                _lent_again.add(decoder)
        finally:
            _awaited.remove(decoder)
            if not there:
                _changed.notify_all()
    if not there:
        yield None
        return
    try:
        yield decoder
    finally:
        _give_back(decoder)


def _give_back(decoder: Decoder) -> None:
    usable = decoder.usable
    if not usable:
        decoder.close()
    with _changed:
        _lent_again.discard(decoder)
        if not usable:
            decoder.freed.notify_all()
            _changed.notify_all()
            return
        _idle.append(decoder)
        (decoder.freed if decoder in _awaited else _changed).notify()


@atexit.register
def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


def read_whole(path: str, max_pixels: int, preprocess: Preprocess | None = None) -> Image.Image:
    """Return a whole image for people, upright and in mode RGB, out of harm's way.

    Args:
        path: The file.
        max_pixels: An image with more is refused.
        preprocess: Its window and its channels are shown; colours, and the image's own values,
            without.

    Raises:
        BadImageError: It cannot be read.
    """
    with borrowed_decoder() as decoder:
        return Image.fromarray(
            decoder.read(Request(path, max_pixels, preprocess, whole=True)).pixels
        )
