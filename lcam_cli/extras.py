"""The packages that extras bring: which are installed, and how to get one that is not."""

from __future__ import annotations

import functools
import importlib.util

from lcam_cli.errors import LcamError


@functools.cache
def is_installed(package: str) -> bool:
    """Whether a package can be imported, by the name that it is imported by."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # what stands in its place is no package
        return False


def install(extra: str) -> str:
    """What installs an extra."""
    return f"pip install 'lcam-cli[{extra}]'"


def not_installed(package: str, extra: str) -> LcamError:
    """The error of a package that a run needs, with how to get it."""
    return LcamError(f"{package} is not installed", install_hint(extra))


def install_hint(extra: str) -> str:
    """The same as :func:`install`, also for whoever works in a clone."""
    return f"{install(extra)}, or in lcam's clone: pip install '.[{extra}]'"
