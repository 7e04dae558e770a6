"""Which images are kept aside."""

from __future__ import annotations

import pytest

from lcam_cli.training.kept_aside import choose_aside
from lcam_cli.training.recipes import OWN_RECIPES, recipe_for


@pytest.mark.parametrize(
    ("pictures", "share", "count"),
    [
        (0, 0.2, 0),
        (9, 0.2, 0),
        (10, 0.2, 4),
        (10, 0.5, 5),
        (22, 0.2, 4),
        (23, 0.2, 5),
        (1600, 0.2, 320),
        (2000, 0.2, 400),
        (1_281_167, 0.5, 400),
        (1600, 0.0, 0),
    ],
)
def test_a_fifth_at_least_four_and_at_most_400(pictures: int, share: float, count: int) -> None:
    places = choose_aside(pictures, share, seed=3)
    assert len(set(places)) == len(places) == count
    assert places == sorted(places)
    assert all(0 <= place < pictures for place in places)


def test_the_seed_chooses_and_pictures_of_all_places_are_among_them() -> None:
    assert choose_aside(100, 0.2, 1) == choose_aside(100, 0.2, 1)
    assert choose_aside(100, 0.2, 1) != choose_aside(100, 0.2, 2)
    ever = {place for seed in range(60) for place in choose_aside(100, 0.2, seed)}
    assert ever == set(range(100))


def test_recipe_auto_of_img_fm_tame_and_amg_keeps_a_fifth_aside_and_no_other_does() -> None:
    assert {mode: recipe_for("auto", "net", mode).keep_aside for mode in ("img", "fm")} == {
        "img": 0.2,
        "fm": 0.2,
    }
    assert {mode for mode, recipe in OWN_RECIPES.items() if recipe.keep_aside} == {"amg", "tame"}
    assert recipe_for("paper", "vgg16").keep_aside == 0
    assert recipe_for("reference", "vgg16").keep_aside == 0
