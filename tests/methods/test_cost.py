"""Times of maps, derived from times of passes."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from lcam_cli.engine.engine import Engine
from lcam_cli.engine.pass_times import PassTimes, measure_passes
from lcam_cli.methods.cost import Pass, seconds_of_map
from lcam_cli.methods.preferred import PREFERRED, advice, preferred
from lcam_cli.methods.registry import METHODS, abilities, known_methods
from lcam_cli.reports.methods import in_words
from tests.engine.test_self_attention import InPlace, backbone_of
from tests.tiny import tiny_backbone
from tests.transformers import own_backbone, tiny_vit

TIMES = PassTimes(1.0, 0.1, 0.25, 3.0, 1.5, 4.0)


@pytest.mark.parametrize(
    ("name", "passes", "seconds"),
    [
        ("cam", 1, 1.0),
        ("gradcam", 1, 1.25),
        ("shapleycam", 1, 1.75),
        ("smoothgradcam++", 25, 1 + 25 * 1.25),
        ("reciprocam", 49, 1 + 4.9),
        ("scorecam", 512, 513.0),
        ("saliency", 1, 3.0),
        ("ig", 50, 151.0),
        ("opticam", 100, 301.0),
        ("rollout", 1, 1.5),
        ("legrad", 1, 4.0),
        ("random", 0, 1.0),
    ],
)
def test_by_hand(name: str, passes: int, seconds: float) -> None:
    assert seconds_of_map(METHODS[name].each, passes, TIMES) == pytest.approx(seconds)


def test_what_a_network_cannot_do_has_no_time() -> None:
    bare = PassTimes(1.0)
    without = {"none", "forward"}
    for each in get_args(Pass):
        assert (seconds_of_map(each, 1, bare) is None) == (each not in without)


def test_passes_are_those_that_the_network_has() -> None:
    engine = Engine(tiny_backbone(), device="cpu")
    state = torch.random.get_rng_state()
    times = measure_passes(engine)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert times.forward > 0
    assert times.backward is not None
    assert times.backward > times.forward
    assert times.attention is None
    vit = measure_passes(Engine(own_backbone(tiny_vit()), device="cpu"), attention=True)
    assert vit.attention is not None
    assert vit.attention_backward is not None
    assert vit.attention_backward > vit.attention


def test_a_network_whose_attention_has_no_gradients_is_measured_without_them() -> None:
    torch.manual_seed(0)
    engine = Engine(backbone_of(InPlace(2).eval()), device="cpu")
    assert measure_passes(engine, attention=True).attention is not None


def test_every_preference_is_a_method() -> None:
    known = {*known_methods(), "lcam", "tame"}
    assert {one.name for one in PREFERRED} <= known
    found = preferred(["rise", "gradcam", "lcam-fm"])
    assert found is not None
    assert found[0] == "lcam-fm"
    assert preferred(["rise"]) is None
    assert (preferred(["lcam-img", "gradcam", "gae"]) or [""])[0] == "gae"
    assert (preferred(["lcam-img", "cam", "gae"]) or [""])[0] == "lcam-img"
    assert advice(["rise", "gradcam"]) == "use gradcam; these methods also work: rise"
    assert advice([]) == ""
    assert advice(["gradcam", *"abcdefghijkl"]).endswith("i, j and 2 more")


def test_trying_all_methods_names_each_once() -> None:
    found = abilities(tiny_backbone())
    assert [one.name for one in found] == list(known_methods())
    assert all((one.method is None) == bool(one.why_not) for one in found)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.00012, "0.1 ms"),
        (0.062, "62 ms"),
        (3.42, "3.4 s"),
        (50, "50 s"),
        (120, "2 min"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
