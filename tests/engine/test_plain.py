"""From what a source returns to a plain classifier, piece by piece and by hand."""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.engine.output import choose, described
from lcam_cli.engine.probabilities import kind_of, logits_of, scores_of
from lcam_cli.errors import LcamError
from lcam_cli.methods.cam import Cam
from lcam_cli.methods.gradient import GradCam
from lcam_cli.networks.network import Network
from lcam_cli.networks.wrappers import unwrap
from tests.tiny import SMALL, tiny_network
from tests.transformers import own_backbone

X = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def _backbone(module: nn.Module, **options: Any) -> Backbone:
    return Backbone(Network(module, "own.py:f", "none", preprocess=SMALL), **options)


# --- outputs --------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "scores features")


@pytest.mark.parametrize(
    ("make", "path", "classes"),
    [
        (lambda n: torch.rand(n, 4), (), 4),
        (lambda n: torch.rand(n, 4, 1, 1), (), 4),
        (lambda n: torch.rand(n, 1), (), 1),
        (lambda n: torch.rand(n, 4).squeeze(0), (), 4),
        (lambda n: torch.rand(n, 1).squeeze(), (), 1),
        (torch.rand, (), 1),
        (lambda n: {"logits": torch.rand(n, 4), "other": torch.rand(n, 5)}, ("logits",), 4),
        (lambda n: (torch.rand(()), torch.rand(n, 4)), (1,), 4),
        (lambda n: {0: torch.rand(n, 4), "maps": torch.rand(n, 8, 2, 2)}, (0,), 4),
        (lambda n: Pair(torch.rand(n, 4), torch.rand(n, 8, 2, 2)), ("scores",), 4),
        (lambda n: [torch.rand(n, 4), torch.rand(n)], (0,), 4),
        (lambda n: (torch.rand(n, 4), torch.arange(n)[:, None]), (0,), 4),
    ],
)
def test_a_lone_tensor_of_logits_is_taken(
    make: Callable[[int], Any], path: tuple[Any, ...], classes: int
) -> None:
    choice = choose("f", make(1), make(2))
    assert (choice.path, choice.classes) == (path, classes)
    for count in (1, 2, 5):
        assert choice.shaped(choice.pick(make(count))).shape == (count, classes)


def test_outputs_are_described_by_keys_and_shapes() -> None:
    one = torch.rand(1, 4)
    assert described((one, torch.rand(1, 24))) == "a tuple of 2: [0] (1, 4), [1] (1, 24)"
    assert described({"a": one, "b": [one, None]}) == "a dict: a (1, 4), b.0 (1, 4), b.1 NoneType"
    assert described(Pair(one, 3)) == "a Pair of 2: scores (1, 4), features int"
    assert described(None) == "None"
    assert described([one] * 14).endswith("[11] (1, 4) and 2 more")


def test_outputs_that_hold_themselves_are_described_too() -> None:
    loop: dict[str, Any] = {"logits": None}
    loop["again"] = loop
    with pytest.raises(LcamError, match="a dict"):
        choose("f", loop, loop)


@pytest.mark.parametrize("wanted", ["b.c", "b.c.0", "d.e"])
def test_output_names_nested_ones_and_keys_with_dots(wanted: str) -> None:
    output = {"a": torch.rand(1, 3), "b": {"c": torch.rand(1, 4)}, "d.e": torch.rand(1, 5)}
    if wanted == "b.c.0":
        with pytest.raises(LcamError, match=r"returns no tensor 'b\.c\.0'"):
            choose("f", output, None, wanted)
        return
    assert choose("f", output, None, wanted).classes == {"b.c": 4, "d.e": 5}[wanted]


def test_an_output_that_changes_is_told() -> None:
    choice = choose("f", {"logits": torch.rand(1, 4)}, None)
    with pytest.raises(LcamError, match="another kind of output than at first: a dict: scores"):
        choice.pick({"scores": torch.rand(1, 4)})


# --- probabilities --------------------------------------------------------------------------------

Z = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -200.0]])


def test_probabilities_are_told_from_logits() -> None:
    assert kind_of(Z.softmax(1), None) == "softmax"
    assert kind_of(Z.log_softmax(1), None) == "log_softmax"
    assert kind_of(Z.sigmoid(), "sigmoid") == "sigmoid"
    assert kind_of(Z.sigmoid(), None) is None  # may be small logits
    assert kind_of(Z, None) is None
    assert kind_of(-Z.abs(), None) is None
    assert kind_of(torch.full((2, 3), 0.3), "softmax") is None
    assert kind_of(torch.ones(2, 1), None) is None  # a logit of 1 is no softmax of one class
    assert kind_of(torch.ones(2, 1), "sigmoid") == "sigmoid"
    assert kind_of(torch.full((2, 3), torch.nan), "sigmoid") is None


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "log_softmax"])
def test_undone_they_give_the_same_scores_and_are_finite(kind: Any) -> None:
    outputs = scores_of(torch.cat([Z, torch.tensor([[90.0, -90.0, 0.0]])]), kind)
    assert kind == "log_softmax" or bool(((outputs == 0) | (outputs == 1)).any())
    logits = logits_of(outputs, kind)
    assert bool(logits.isfinite().all())
    torch.testing.assert_close(scores_of(logits, kind), outputs, rtol=1e-5, atol=1e-7)


class _Ends(nn.Module):
    """The tiny network, with an end."""

    def __init__(self, end: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body = tiny_network()
        with torch.no_grad():
            self.body[-1].weight *= 300
        self.end = end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.body(x))


@pytest.mark.parametrize(
    "end",
    [
        nn.Softmax(1),
        nn.LogSoftmax(1),
        nn.Sigmoid(),
        lambda z: z.softmax(1),
        torch.sigmoid,
        lambda z: nn.functional.softmax(z, dim=-1),
        lambda z: {"p": torch.special.expit(z)},
    ],
)
def test_a_network_whose_last_step_is_taken_off_is_still_cut_in_two(
    end: Callable[[Tensor], Any],
) -> None:
    plain = _backbone(_Ends(lambda z: z), layer="body.3")
    ended = _backbone(_Ends(end), layer="body.3")
    assert ended.is_split
    assert ended.identity.probabilities
    torch.testing.assert_close(ended(X), plain(X))
    one, two = (Engine(b, device="cpu") for b in (plain, ended))
    seen, same = one.forward(X), two.forward(X)
    torch.testing.assert_close(
        two.feature_gradients(same, seen.predicted), one.feature_gradients(seen, seen.predicted)
    )
    classes = seen.predicted
    for make in (lambda _: GradCam(), Cam):
        maps, wanted = make(ended)(two, same, classes), make(plain)(one, seen, classes)
        torch.testing.assert_close(maps.saliency, wanted.saliency, rtol=1e-4, atol=1e-4)


def test_a_network_used_twice_is_taken_as_it_came() -> None:
    network = _Ends(lambda z: {"p": z.softmax(1), "q": z[:, 1:].softmax(1)})
    first = _backbone(network, layer="body.3", output="p")
    wanted = first(X)
    second = _backbone(network, layer="body.3", output="p", activation=None)
    assert second.identity == first.identity
    torch.testing.assert_close(second(X), wanted)
    assert _backbone(network, layer="body.3", output="q").num_classes == 3


def test_a_file_cannot_say_of_logits_that_they_are_probabilities() -> None:
    for network in (tiny_network(), _Ends(lambda z: z)):
        with pytest.raises(LcamError, match="does not return softmax now, as it did"):
            _backbone(network, probabilities="softmax")
    with pytest.raises(LcamError, match="unknown last step 'eval'"):
        _backbone(tiny_network(), probabilities="eval")


def test_an_average_of_softmaxes_is_undone() -> None:
    ended = _backbone(_Ends(lambda z: (z.softmax(1) + (z / 9).softmax(1)) / 2), layer="body.3")
    assert ended.identity.probabilities == "softmax"
    p = ended.network.end(ended.network.body(X))
    engine = Engine(ended, device="cpu")
    pixels = X * engine._std + engine._mean
    torch.testing.assert_close(engine.scores(pixels), p, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_compiled_sigmoid_is_seen_by_its_gradient() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.fc(x.mean((2, 3))))

    backbone = _backbone(torch.jit.script(Small()))
    assert (backbone.identity.activation, backbone.identity.probabilities) == ("sigmoid",) * 2
    assert not backbone.has_layer
    with pytest.raises(LcamError, match="TorchScript"):
        _ = backbone.feature_shape


def test_what_only_looks_like_a_sigmoid_is_none() -> None:
    """Squeeze and excitation ends in a sigmoid of as many channels, which is no last step."""
    backbone = _backbone(_Ends(lambda z: z * 1e-4 * z.sigmoid() + 0.5), layer="body.3")
    assert backbone.identity.probabilities == ""
    assert backbone.notes == []


# --- wrappers -------------------------------------------------------------------------------------


def test_a_network_that_calls_its_part_module_is_none_of_them() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = tiny_network()

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x * 2)

    network = Scaled()
    assert unwrap(network) is network
    assert _backbone(network).identity.layer == "module.3"


def test_the_network_can_still_be_copied_and_runs_as_its_class() -> None:
    network = _Ends(lambda z: (z, None))
    backbone = _backbone(network, layer="body.3")
    assert isinstance(backbone.network, _Ends)
    assert type(backbone.network).__name__ == "_Ends"
    torch.testing.assert_close(copy.deepcopy(backbone.network)(X), backbone(X))


def test_probabilities_of_named_networks_are_never_looked_for() -> None:
    backbone = own_backbone(tiny_network(), "3")
    assert backbone.identity.probabilities == ""
    assert backbone.notes == []
