"""What makes two backbones the same one."""

from __future__ import annotations

from dataclasses import dataclass, field

from lcam_cli.engine.activation import Activation, scoring


@dataclass(frozen=True)
class Identity:
    """What makes two backbones the same one: an attention fits only the backbone it was trained on.

    Attributes:
        name: As typed: ``resnet50``, ``file.py:function``.
        weights: torchvision's name, ``none:seed=N`` or ``sha256:…``.
        layer: The target layer.
        weights_file: Where the weights were read; a hint, no part of the identity.
        grid: ``"PxQ"`` of a transformer's patches where the user had to say so, else ``""``.
        activation: What turns its outputs into scores.
        output: Which of the network's outputs are the logits where the user had to say so, else
            ``""``.
        probabilities: The last step that was taken off it, ``"softmax"``, ``"sigmoid"`` or
            ``"log_softmax"``; ``""`` where it gives logits.
    """

    name: str
    weights: str
    layer: str
    weights_file: str = field(default="", compare=False)
    grid: str = ""
    activation: Activation = "softmax"
    output: str = ""
    probabilities: str = ""

    @property
    def scoring(self) -> Activation:
        """What turns the logits of the classifier as it runs here into scores."""
        return scoring(self.activation, self.probabilities)
