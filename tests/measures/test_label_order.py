"""Labels in another order than the classifier's classes, and classifiers that are only bad."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lcam_cli.measures.label_order import LabelOrder


def watched(
    classes: int, pictures: int, accuracy: float, label_of: Callable[[int], int], seed: int = 0
) -> str:
    """What is told of a classifier that is right so often, where class c is labelled so.

    Its mistakes are evenly spread.
    """
    random = np.random.default_rng(seed)
    order = LabelOrder()
    for i in range(pictures):
        true = i % classes
        right = random.random() < accuracy
        predicted = true if right else int(random.integers(classes))
        if 0 <= label_of(true) < classes:
            order.update(label_of(true), predicted)
    return order.warning([f"class {c}" for c in range(classes)])


def text_order(classes: int) -> Callable[[int], int]:
    """The number that a class has by its folder's name, where folders were sorted as text."""
    return sorted(range(classes), key=str).__getitem__


@pytest.mark.parametrize("accuracy", [0.6, 0.95])
def test_labels_from_one_and_their_reverse(accuracy: float) -> None:
    told = watched(10, 120, accuracy, lambda c: c + 1)
    assert "as the class before (do the labels count from 1?)" in told
    assert "--classes FILE" in told
    assert "as the class after" in watched(10, 120, accuracy, lambda c: c - 1)
    # One image a class, as people try things out.
    assert "the class before" in watched(100, 100, accuracy, lambda c: c + 1)


@pytest.mark.parametrize(("classes", "pictures"), [(12, 120), (100, 100), (1000, 400)])
def test_numbers_that_were_sorted_as_text(classes: int, pictures: int) -> None:
    told = watched(classes, pictures, 0.8, text_order(classes))
    assert "sorted as text (0, 1, 10, 2, …)" in told
    assert "\n" not in told


def test_any_other_order_is_found_on_half_and_tried_on_half() -> None:
    shuffled = np.random.default_rng(5).permutation(10).tolist()
    told = watched(10, 200, 0.8, shuffled.__getitem__)
    assert "as another class, always the same one (class " in told
    # Of 200 images 100 are tried, all of those that have a class in the order.
    assert "of 100 labelled images" in told


def test_two_classes_that_are_swapped() -> None:
    assert "in another order" in watched(2, 60, 0.95, lambda c: 1 - c)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("classes", "pictures", "accuracy"),
    [(2, 40, 0.0), (2, 300, 0.3), (3, 30, 0.0), (10, 40, 0.1), (12, 300, 0.0), (1000, 200, 0.1)],
)
def test_a_weak_classifier_is_no_order(
    classes: int, pictures: int, accuracy: float, seed: int
) -> None:
    assert watched(classes, pictures, accuracy, lambda c: c, seed) == ""


def test_right_labels_few_pictures_and_one_class_are_no_order() -> None:
    assert watched(10, 500, 0.9, lambda c: c) == ""
    assert watched(10, 9, 1.0, lambda c: c + 1) == ""
    everything_is_class_0, one_is_always_another = LabelOrder(), LabelOrder()
    for i in range(100):
        everything_is_class_0.update(i % 5, 0)
        one_is_always_another.update(1, 0)
    names = list("abcde")
    assert everything_is_class_0.warning(names) == ""
    assert one_is_always_another.warning(names) == ""


def test_two_of_many_classes_that_are_taken_for_each_other_are_no_order() -> None:
    order = LabelOrder()
    for i in range(200):
        c = i % 10
        order.update(c, {3: 4, 4: 3}.get(c, c))
    assert order.warning([str(c) for c in range(10)]) == ""
