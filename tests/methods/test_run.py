"""What a method of another package is handed, and what it may give: anything else is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine, Forward
from lcam_cli.errors import LcamError
from lcam_cli.images.find import Skipped
from lcam_cli.measures.picture_scores import PictureScores
from lcam_cli.measures.sweep import Candidate, sweep
from lcam_cli.measures.task import Task
from lcam_cli.methods.base import Maps
from lcam_cli.methods.explain import explain
from lcam_cli.methods.gradient import GradCam
from lcam_cli.methods.lent import NetworkChangedError
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import METHODS, find_method, make_method
from lcam_cli.methods.run import run_method
from lcam_cli.networks.network import Network
from tests.packages import Install
from tests.tiny import SMALL, tiny_backbone, tiny_network, write_pictures
from tests.transformers import own_backbone, tiny_vit

Act = Callable[[Engine, Forward], Any]


class Foreign:
    """Does what a test says."""

    name = "mm"
    forward_passes = 1

    def __init__(self, act: Act) -> None:
        self.params: dict[str, Any] = {}
        self._act = act

    def __call__(self, engine: Engine, forward: Forward, classes: Tensor) -> Maps:
        given = self._act(engine, forward)
        return Maps(forward.x.mean(1)) if given is None else given


@pytest.fixture(scope="module")
def backbone() -> Any:
    return tiny_backbone()


@pytest.fixture
def engine(backbone: Any) -> Iterator[Engine]:
    yield Engine(backbone, device="cpu", batch_size=4)
    backbone.network.eval()


def x() -> Tensor:
    return torch.rand(
        2, 3, SMALL.image_size, SMALL.image_size, generator=torch.Generator().manual_seed(1)
    )


def grey(forward: Forward) -> Tensor:
    return forward.x.mean(1)


GIVES: dict[str, tuple[Act, str]] = {
    "tensor": (lambda e, f: grey(f), "does not return Maps but a Tensor"),
    "numpy": (lambda e, f: Maps(grey(f).numpy()), "returns maps as a ndarray, not as a Tensor"),
    "integers": (lambda e, f: Maps(grey(f).long()), "returns maps of int64, not of float32"),
    "fewer": (
        lambda e, f: Maps(grey(f)[:1]),
        r"returns maps of shape \(1, 32, 32\), not \(2",
    ),
    "cam": (lambda e, f: Maps(grey(f), f.A), "returns a cam of shape"),
    "range": (lambda e, f: Maps(grey(f) * 0 - 0.5), "returns values from -0.5 to -0.5, not from 0"),
    "exit": (lambda e, f: sys.exit(4), r"failed: it called sys.exit\(4\) \(.*test_run.py, line"),
    "x": (lambda e, f: (f.x.zero_(), None)[1], "writes in place to forward.x, which"),
    "A": (lambda e, f: (f.A.mul_(2), None)[1], "writes in place to forward.A, which"),
}


@pytest.mark.parametrize("case", GIVES)
def test_what_it_must_not_do_is_named(engine: Engine, tmp_path: Path, case: str) -> None:
    act, why = GIVES[case]
    with pytest.raises(LcamError, match=f"^the plug-in mm {why}"):
        list(explain(engine, Foreign(act), write_pictures(tmp_path, 2)))


def test_what_is_nearly_right_is_taken(engine: Engine) -> None:
    def act(engine: Engine, forward: Forward) -> Maps:
        return Maps((grey(forward).double() * 0 + 1.0005).requires_grad_())

    checked = run_method(engine, Foreign(act), engine.forward(x()), torch.tensor([0, 1]))
    checked.check_range()
    V = checked.maps.saliency
    assert V.dtype == torch.float32
    assert not V.requires_grad
    assert (V == 1).all()


def test_one_that_writes_in_place_leaves_the_other_rows_as_they_are(
    engine: Engine, tmp_path: Path
) -> None:
    def everything(_: Engine, forward: Forward) -> None:
        for one in (forward.x, forward.A, forward.logits, forward.A.data):
            one.zero_()
        forward.x.numpy()[:] = 7  # which no tensor counts

    task = Task(write_pictures(tmp_path, 5), nus=(50.0,))

    def scores(*methods: Any) -> list[PictureScores]:
        candidates = [
            Candidate(m.name, m, PictureScores.empty(task, SMALL.input_shape[1:])) for m in methods
        ]
        lost: list[Skipped] = []
        sweep(engine, candidates, task, workers=1, skip=lost.append)
        if len(methods) > 1:
            assert "(writes in place to forward.x, forward.A" in candidates[0].failed
        return [candidate.scores for candidate in candidates]

    (alone,) = scores(GradCam())
    _, beside = scores(Foreign(everything), GradCam())
    np.testing.assert_array_equal(beside.numbers, alone.numbers)
    np.testing.assert_array_equal(beside.full, alone.full)


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda e, f: e.backbone.network.train(), "mode"),
        (
            lambda e, f: e.backbone.network.register_forward_hook(lambda *_: None) and None,
            "hooks",
        ),
        (lambda e, f: next(e.backbone.network.parameters()).mul_(1), "weights"),
    ],
)
def test_one_that_changes_the_classifier_ends_the_run(
    engine: Engine, tmp_path: Path, act: Act, what: str
) -> None:
    task = Task(write_pictures(tmp_path, 2), nus=(50.0,))
    method = Foreign(act)
    candidate = Candidate("mm", method, PictureScores.empty(task, SMALL.input_shape[1:]))
    with pytest.raises(
        NetworkChangedError, match=f"the plug-in mm changes the classifier's {what}"
    ):
        sweep(engine, [candidate], task, workers=1)
    engine.backbone.network._forward_hooks.clear()


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_our_own_leave_what_they_are_handed(name: str) -> None:
    backbone = own_backbone(tiny_vit()) if METHODS[name].attention else tiny_backbone()
    engine = Engine(backbone, device="cpu", batch_size=16)
    method = make_method(name, backbone, options=MethodOptions(rise_masks=20))
    forward = engine.forward(x())
    before = [one.clone() for one in (forward.x, forward.A, forward.logits)]
    run_method(engine, method, forward, torch.tensor([0, 3])).check_range()
    for one, was in zip((forward.x, forward.A, forward.logits), before, strict=True):
        assert torch.equal(one, was)


METHOD = """
class M:
    name, params, forward_passes = "mm", {}, 1
    def __call__(self, *_): pass
def make(*_):
    return M()
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("return M()", "return None", "does not make a method but a NoneType"),
        ("return M()", "return M", "does not make a method but a class M"),
        ("make(*_)", "make()", "failed: TypeError: make.* takes 0 positional arguments"),
        ("return M()", "return {}['a']", r"failed: KeyError: 'a' \(.*lcam_mm.py, line 6\)"),
        ("return M()", "raise SystemExit(3)", r"failed: it called sys.exit\(3\)"),
        ('"mm"', '"gradcam"', "makes a method with the name 'gradcam', not 'mm'"),
        ("{}", "{'a': object()}", "its params are not a dict of JSON values"),
        ("{}", "[]", "its params are not a dict of JSON values: a list is not a dict"),
        ("1\n", "'1'\n", "its forward_passes are '1', not a number"),
        ("name, params, forward_passes", "a, b, c", "without name, params, forward_passes"),
    ],
)
def test_what_a_package_makes_is_checked(
    install: Install, backbone: Any, old: str, new: str, why: str
) -> None:
    install("lcam_mm", METHOD.replace(old, new), {"mm": "lcam_mm:make"})
    with pytest.raises(LcamError, match=rf"^the plug-in method 'mm' \(lcam_mm:make\).* {why}"):
        make_method("mm", backbone)


def test_it_may_need_no_layer_or_gradients(install: Install) -> None:
    install("lcam_mm", METHOD, {"mm": "lcam_mm:make"})
    assert (find_method("mm").layer, find_method("mm").gradients) == (True, False)
    says = "make.layer, make.gradients = False, True\n"
    install("lcam_nn", METHOD + says, {"nn": "lcam_nn:make"})
    assert (find_method("nn").layer, find_method("nn").gradients) == (False, True)


def test_without_a_layer_it_explains_torchscript(install: Install) -> None:
    network = Network(torch.jit.script(tiny_network()), "script", "none", preprocess=SMALL)
    engine = Engine(Backbone(network), device="cpu")
    returns = "engine, forward, classes): return Maps(forward.x.mean(1))"
    black_box = "from lcam_cli import Maps" + METHOD.replace("*_): pass", returns)
    install("lcam_mm", black_box, {"mm": "lcam_mm:make"})
    with pytest.raises(LcamError, match="TorchScript"):
        make_method("mm", engine.backbone)
    without = black_box.replace('"mm"', '"nn"') + "make.layer = False\n"
    install("lcam_nn", without, {"nn": "lcam_nn:make"})
    method = make_method("nn", engine.backbone)
    V = run_method(engine, method, engine.forward(x()), torch.tensor([0, 1])).maps.saliency
    assert torch.equal(V, x().mean(1))
