"""Finding a class by what a user types."""

from __future__ import annotations

import pytest
from torchvision.models import AlexNet_Weights

from lcam_cli.errors import LcamError
from lcam_cli.networks.class_names import find_class

NAMES = ["tabby", "Persian cat", "Siamese_cat", "cathedral", "castle"]


def hint(typed: str, names: list[str] = NAMES) -> str:
    with pytest.raises(LcamError) as caught:
        find_class(typed, names)
    return caught.value.hint


def test_a_word_of_a_name_suggests_the_classes_that_have_it() -> None:
    assert hint("cat") == "did you mean Persian cat, Siamese_cat?"
    assert hint("castel").startswith("did you mean castle")
    assert hint("zzzz") == "pass an index, or a name as in --classes"
    assert hint("dog", [f"dog {i}" for i in range(8)]).endswith("dog 4 and 3 more?")


def test_a_wordnet_id_names_a_class_of_imagenet_and_of_nothing_else() -> None:
    names = list(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
    assert names[find_class("n02123045", names)] == "tabby"
    with pytest.raises(LcamError, match="no class named 'n02123045'"):
        find_class("n02123045", NAMES)
