"""What is not finite: images' scores, which leave them out, or a loss, which ends the run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.methods.explain import no_numbers, not_numbers

FAILED_BATCH = "failed_batch.txt"


class NonFinitePictures:
    """The images whose scores are no numbers, each reported once.

    An image may be one in the crop of one epoch and not in that of another. They are reported
    only when there are others too: where all are so, one error says it.

    Args:
        engine: The engine with the frozen classifier.
        report: Called with each of them.
    """

    def __init__(self, engine: Engine, report: Callable[[Skipped], None]) -> None:
        self._reason = not_numbers(engine)
        self._report = report
        self._found: dict[str, None] = {}
        self._reported = 0

    def __len__(self) -> int:
        return len(self._found)

    def add(self, paths: Iterable[str]) -> None:
        """Note some."""
        self._found |= dict.fromkeys(paths)

    def report(self) -> None:
        """Report those that have not been reported yet."""
        for path in list(self._found)[self._reported :]:
            self._report(Skipped(path, self._reason))
        self._reported = len(self._found)


def nothing_to_learn_from(engine: Engine, pictures: int, any_nonfinite: bool) -> LcamError:
    """Return the error where no image is of use.

    Args:
        engine: The engine with the frozen classifier.
        pictures: How many there are.
        any_nonfinite: Whether some have scores that are no numbers; otherwise none can be read.
    """
    if any_nonfinite:
        return no_numbers(pictures, engine.hardware.precision)
    return LcamError(f"none of the {pictures} images could be read", "pass a folder of photographs")


def all_finite(terms: Mapping[str, float], module: nn.Module) -> bool:
    """Whether a step's loss, its terms and its gradients are all numbers."""
    return all(map(math.isfinite, terms.values())) and all(map(_is_finite, module.parameters()))


def failed_step(
    step: int, terms: Mapping[str, float], paths: Sequence[str], out: Path, precision: str
) -> LcamError:
    """Return the error of a step that leaves no numbers behind, and list its images in a file.

    Args:
        step: Its number.
        terms: The loss and its terms.
        paths: Its images.
        out: The run's folder, for the list.
        precision: What the network computed in.
    """
    listed = out / FAILED_BATCH
    listed.write_bytes(b"".join(os.fsencode(path) + b"\n" for path in paths))
    named = ", ".join(f"{k}={v:g}" for k, v in terms.items())
    return LcamError(
        f"the loss is not finite at step {step} ({named}) or makes weights that are not finite; "
        f"its {len(paths)} images, {paths[0]} … {paths[-1]}, are listed in {listed}",
        "the last good checkpoint is kept: "
        + (
            "start again with a lower --lr and --overwrite, or without those images"
            if precision == "fp32"
            else "continue from it with --resume --precision fp32"
        ),
    )


def _is_finite(parameter: Tensor) -> bool:
    """Whether the last step's gradients are numbers; looks at the rows they are of alone."""
    gradient = parameter.grad
    if gradient is None:
        return True
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(values.isfinite().all())
