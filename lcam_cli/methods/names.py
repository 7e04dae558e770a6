"""The names of the methods that the package includes, for code that must not wait for torch."""

from __future__ import annotations

from collections.abc import Iterable

from lcam_cli.errors import LcamError, did_you_mean

METHOD_NAMES = (
    *("lcam", "bla", "bla-hard", "bla-head", "bla-head-hard", "bla-t-head", "bla-t-head-hard"),
    *("l2x-f", "amg", "tame", "gradcam", "gradcam++", "xgradcam", "layercam", "hirescam"),
    *("eigengradcam", "shapleycam", "finercam", "refinecam", "smoothgradcam++"),
    *("integrated-gradcam", "cam", "eigencam", "ablationcam", "reciprocam", "scorecam"),
    *("groupcam", "opticam", "sidu", "sise", "adasise", "rise", "rollout", "gae", "legrad"),
    *("occlusion", "saliency", "inputxgradient", "ig", "smoothgrad", "gradientshap", "random"),
)


def unknown_method(name: str, known: Iterable[str]) -> LcamError:
    """The error for a name that no method has, with the known names that it looks like."""
    near = did_you_mean(name, known)
    return LcamError(
        f"unknown method {name!r}", f"{near} `lcam explain --list-methods` lists all.".strip()
    )
