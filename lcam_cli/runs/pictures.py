"""The images of a run: those that its inputs name."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lcam_cli.errors import LcamError
from lcam_cli.images.find import Found, Skipped, find_images
from lcam_cli.images.sampling import sample
from lcam_cli.images.tars import expand_braces
from lcam_cli.runs import pipes
from lcam_cli.runs.options import PictureOptions
from lcam_cli.runs.reporter import Reporter

log = logging.getLogger("lcam")


def find_pictures(
    inputs: Sequence[str], options: PictureOptions, reporter: Reporter, seed: int = 0
) -> Found:
    """Find the images that the inputs name, or as many of them, by the seed, as are wanted.

    What they hold that is not taken, though somebody may miss it, is reported.

    Raises:
        LcamError: There are none.
    """
    listed = options.listed() if "-" in inputs else ()
    named, broken = [], []
    for given in inputs:
        if not (options.run_commands and pipes.is_pipe(given)):
            named.append(given)
            continue
        for item in expand_braces(given):
            try:
                named.append(pipes.stored(item))
            except LcamError as error:
                broken.append((item, error))
    if broken and not named:
        raise broken[0][1]
    found = find_images(named, listed)
    for item, failed in broken:
        # A command may hold passwords: it is told, and in the output there is its digest.
        log.warning("%s", failed.what)
        found.skipped.append(Skipped(str(pipes.place_of(item)), "its command failed"))
    for line in found.passed_over.lines():
        reporter.warn(line)
    found.paths = sample(found.paths, options.max_images, seed)
    return found
