"""The epoch and the loss beside the progress of a training run."""

from __future__ import annotations

import pytest

from lcam_cli.runs.train_outcome import Course


class Notes:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def advance(self, count: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_the_loss_is_a_mean_of_the_last_steps_with_no_weight_on_what_never_was() -> None:
    notes = Notes()
    course = Course(2, notes)
    for loss in (1.0, 0.0):
        course.step(0, loss)
    course.step(1, 4.0)
    assert notes.texts[0] == "epoch 1/2, loss 1.0000"
    words = notes.texts[2].split()
    assert words[:2] == ["epoch", "2/2,"]
    assert float(words[-1]) == pytest.approx((0.81 * 1 + 4) / (0.81 + 0.9 + 1), abs=1e-4)
