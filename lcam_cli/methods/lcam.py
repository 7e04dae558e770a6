"""L-CAM: one row of the trained attention on the feature maps (Eq. 2-3, 9)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.attention_file import AttentionFile
from lcam_cli.methods.base import Maps
from lcam_cli.networks.weights.checkpoint import sha256_of_file


def mode_name(file: AttentionFile) -> str:
    """``lcam-img``, ``lcam-fm``; ``lcam`` for the authors' checkpoints, which do not say."""
    training = file.training
    return f"lcam-{training['mode']}" if "mode" in training else "lcam"


def params_of(file: AttentionFile) -> dict[str, Any]:
    """What the maps file records of a trained method: how it was trained, and the file's hash."""
    return {"training": file.training, "attention": sha256_of_file(file.path)}


class LCam:
    """L-CAM-Fm and L-CAM-Img, which differ in training alone."""

    forward_passes = 1

    def __init__(self, attention: Attention, name: str, params: dict[str, Any]) -> None:
        self.name = name
        self.params = params
        self._attention = attention

    @classmethod
    def of_file(cls, file: AttentionFile, name: str | None = None) -> LCam:
        """The method of an attention file, called ``lcam-<mode>`` unless ``name`` says other.

        Raises:
            LcamError: The file is one of another learned method.
        """
        if not isinstance(file.attention, Attention):
            raise LcamError(f"{file.path} is not an L-CAM attention", "see methods.trained")
        return cls(file.attention, name or mode_name(file), params_of(file))

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        """V = θ(ζ(L)) on the raw L, without the sigmoid that training may put on it."""
        self._attention = self._attention.to(engine.device)
        return Maps.of_cam(self._attention(forward.A, classes), forward)
