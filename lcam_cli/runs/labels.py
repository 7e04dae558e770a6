"""The true classes of a run's images, for the classifier's own top-1 and top-5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lcam_cli.engine.backbone import Backbone
from lcam_cli.measures.accuracy import Accuracy
from lcam_cli.measures.labels import read_labels
from lcam_cli.runs.reporter import Reporter


def true_classes(
    source: str | Path, rows: Sequence[str], network: Backbone, root: str, reporter: Reporter
) -> dict[str, int]:
    """Find the true class of every row that has one.

    Args:
        source: ``--labels``, see :func:`~lcam_cli.measures.labels.read_labels`.
        rows: What the images are called, relative to ``root`` or absolute.
        network: The classifier, which knows the classes.
        root: The folder of the images, absolute.
        reporter: Is told how many images have none.

    Raises:
        LcamError: As :func:`~lcam_cli.measures.labels.read_labels`.
    """
    truth = read_labels(str(source), rows, network, root=root, warn=reporter.warn)
    if unlabelled := len(set(rows) - truth.keys()):
        reporter.warn(
            f"{unlabelled} of {len(set(rows))} images have no label in {source}: top-1 "
            "and top-5 do not count them"
        )
    return truth


def warn_of_label_order(
    accuracy: Accuracy | None, class_names: Sequence[str], reporter: Reporter
) -> None:
    """Say where the labels seem to be the classes in another order."""
    if accuracy and (other_order := accuracy.order.warning(class_names)):
        reporter.warn(other_order)
