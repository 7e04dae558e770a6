"""The process that reads images: requests come in on stdin, answers go out on stdout.

It imports Pillow and numpy, never torch. A decoder that crashes or hangs takes this process along,
and nothing else; ``decoder.py`` is the other end.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pickle
import resource
import signal
import traceback
from functools import partial

from lcam_cli.errors import BadImageError
from lcam_cli.images.kept import KeptPixels
from lcam_cli.images.pillow import readable_formats
from lcam_cli.images.request import (
    CountRequest,
    PictureTask,
    Request,
    answer,
    counted,
    done,
    failed,
    unreadable,
)

READY = b"r"
# Bytes: a pipe that holds an ordinary view lets this process go on without waiting for the reader.
_PIPE_SIZE = 1 << 18
_LARGE = 1 << 26


def main(timeout: float) -> None:
    """Answer requests until stdin ends, which it does when the parent ends, however it ends.

    Args:
        timeout: Seconds an image may take before the process ends itself, for a parent that is
            no longer there to do it.
    """
    # Decoders written in C print what they please: their stdout and stderr lead nowhere, and the
    # answers go out on a descriptor that they do not know.
    answers = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    readable_formats()
    os.write(answers, READY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    kept = KeptPixels()
    with os.fdopen(0, "rb") as requests, contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request: Request | CountRequest | PictureTask = pickle.load(requests)
            # Not caught by Python: the kernel ends the process even inside a decoder's loop.
            signal.setitimer(signal.ITIMER_REAL, timeout)
            message, large = _respond(request, kept)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(answers, message)
            del message  # a large image is not kept until the next is asked for
            if large:
                _give_back_memory()


def _give_back_memory() -> None:
    """Have the C library return what it keeps for later to the system, which others may need."""
    with contextlib.suppress(OSError, AttributeError):  # other libraries than GNU's
        ctypes.CDLL(None).malloc_trim(0)


def _respond(
    request: Request | CountRequest | PictureTask, kept: KeptPixels
) -> tuple[tuple[bytes, bytes | memoryview], bool]:
    """Return the answer, and whether much memory was taken on the way."""
    try:
        if isinstance(request, CountRequest):
            return counted(*request.count()), False
        if isinstance(request, PictureTask):
            return _do(request, kept)
        view, levels = request.view_with_levels(partial(kept.add, request.keep))
        message = answer(view, levels if levels is not None and levels.are_narrow else None)
        return message, len(message[1]) > _LARGE
    except BadImageError as error:
        return unreadable(error.reason), False
    except Exception:
        return failed(traceback.format_exc()), False


def _do(task: PictureTask, kept: KeptPixels) -> tuple[tuple[bytes, bytes], bool]:
    picture = kept.take(task.keep) or task.read()
    large = 4 * picture.width * picture.height > _LARGE
    return done(task.do(picture)), large


def _send(pipe: int, message: tuple[bytes, bytes | memoryview]) -> None:
    """Write header and body at once, so that the reader is woken once."""
    header, body = message
    written = os.writev(pipe, (header, body))
    assert written >= len(header), "a pipe takes so few bytes whole"
    rest = memoryview(body)[written - len(header) :]
    while rest:
        rest = rest[os.write(pipe, rest) :]
