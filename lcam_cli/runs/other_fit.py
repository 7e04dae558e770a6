"""Attentions that were trained with another fit than the one that images are explained with.

An attention's fit, ``"crop"``, ``"squash"`` or ``"pad"``, is part of its preprocessing and taken by
default. The user may name another: what was learned holds there too, if less well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Fit
from lcam_cli.methods.attention_file import AttentionFile
from lcam_cli.runs.reporter import Reporter


def check_one_fit(files: Sequence[AttentionFile], named: Fit | None) -> None:
    """Check that it is clear which fit attentions that explain the same images take.

    Args:
        files: The attentions; those that do not know their fit take any.
        named: The fit that the user named; None for the attentions' own.

    Raises:
        LcamError: They were trained with different ones, and none is named.
    """
    first: dict[Fit, AttentionFile] = {}
    for file in files:
        if file.settings is not None:
            first.setdefault(file.settings.preprocess.fit, file)
    if named is None and len(first) > 1:
        trained = " and ".join(f"{file.path} with {fit}" for fit, file in first.items())
        raise LcamError(
            f"these attentions were trained with different --fit: {trained}",
            f"pass one for all of them: {' or '.join(f'--fit {fit}' for fit in first)}",
        )


def note_other_fit(files: Iterable[AttentionFile], named: Fit | None, reporter: Reporter) -> None:
    """Say which attentions were trained with another fit than the one that is named."""
    for file in files:
        if named is not None and file.settings is not None:
            own = file.settings.preprocess.fit
            if own != named:
                reporter.info(f"{file.path} was trained with --fit {own}, not {named}")
