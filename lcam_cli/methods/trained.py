"""The methods that an attention file brings along, by the names users type."""

from __future__ import annotations

from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.methods.amg import Amg, Gates
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.attention_file import FILE_NAME, AttentionFile, load_attention
from lcam_cli.methods.base import Method
from lcam_cli.methods.bounded_logit import Bla, HardPositions, PositionLogits
from lcam_cli.methods.lcam import LCam, mode_name, params_of
from lcam_cli.methods.tame import Tame, TameMethod
from lcam_cli.methods.trained_head import TrainedHead

LCAM = "lcam"

SUMMARIES = {
    LCAM: "the trained attention of this project's run (Gkartzonika 2022); needs lcam train",
    "bla": "positions the head needs, softly; needs lcam train --mode bla (Baumhauer 2021)",
    "bla-hard": "a run of bla, the chosen positions alone, as many as the picture needs",
    "bla-head": "BLA inside a classifier whose head was trained too; --mode bla --train-head",
    "bla-head-hard": "a run of bla-head, the chosen positions alone",
    "bla-t-head": "bla-head with BLA-T's threshold; --mode bla-t --train-head",
    "bla-t-head-hard": "a run of bla-t-head, the chosen positions alone",
    "l2x-f": "8 positions learned by sampling; needs lcam train --mode l2x-f (Baumhauer 2021)",
    "amg": "Grad-CAM through two gates; needs lcam train --mode amg (An & Joe 2022)",
    "tame": "several layers fused; needs lcam train --mode tame (Ntrougkas 2022)",
}
"""The lines of ``--list-methods`` for what is trained."""


def is_trained(name: str) -> bool:
    """Whether a method of that name comes from an attention file: those above, ``lcam-img`` …."""
    return name.partition(" ")[0] in SUMMARIES or name.startswith(f"{LCAM}-")


def names_of(file: AttentionFile) -> list[str]:
    """What a file's methods are called, its own first."""
    if isinstance(file.attention, Attention):
        return [mode_name(file)]
    if isinstance(file.attention, Gates):
        return ["amg"]
    if isinstance(file.attention, Tame):
        return ["tame"]
    kind = _position_logits(file.attention).kind
    return [kind] if kind == "l2x-f" else [kind, f"{kind}-hard"]


def _position_logits(learned: PositionLogits | TrainedHead) -> PositionLogits:
    return learned.logits if isinstance(learned, TrainedHead) else learned


def fits_name(row: str, name: str) -> bool:
    """Whether ``name`` means a row: by its method, with its run, or ``lcam`` for both modes."""
    return name in (row, row.partition(" ")[0]) or (name == LCAM and row.startswith(LCAM))


def method_of(file: AttentionFile, name: str) -> Method:
    """Make one of :func:`names_of`."""
    learned, params = file.attention, params_of(file)
    if isinstance(learned, Attention):
        return LCam(learned, name, params)
    if isinstance(learned, Gates):
        return Amg(learned, params)
    if isinstance(learned, Tame):
        return TameMethod(learned, params)
    logits = _position_logits(learned)
    soft = name == logits.kind != "l2x-f"
    return Bla(logits, params) if soft else HardPositions(logits, params)


def newest_run(
    name: str,
    backbone: str | None = None,
    activation: str | None = None,
    runs: Path = Path("runs"),
) -> AttentionFile | None:
    """Find the newest run that has a method.

    Args:
        name: As in :func:`fits_name`.
        backbone: Only runs on the backbone of this name, with this activation.
        activation: What turns its logits into scores; None for softmax, or what its last step was
            seen to be.
        runs: Where runs lie.
    """
    paths = sorted(runs.glob(f"*/{FILE_NAME}"), key=lambda p: (p.stat().st_mtime_ns, p.name))
    for path in reversed(paths):
        file = load_attention(path)
        if _is_of(file, backbone, activation) and any(
            fits_name(row, name) for row in names_of(file)
        ):
            return file
    return None


def _is_of(file: AttentionFile, backbone: str | None, activation: str | None) -> bool:
    if backbone is None:
        return True
    identity = file.settings.identity if file.settings is not None else None
    if identity is None or identity.name != backbone:
        return False
    if activation is None and identity.probabilities:
        return True
    return identity.activation == (activation or "softmax")


def no_run(name: str) -> LcamError:
    """What to say where :func:`newest_run` finds none."""
    return LcamError(
        f"no trained attention for {name} under runs/",
        "train one (lcam train DATA --backbone …), or name it: --attention DIR",
    )
