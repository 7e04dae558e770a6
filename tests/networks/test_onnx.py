"""ONNX classifiers: the same network as in PyTorch, in all the forms that exporters give it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lcam_cli.engine.backbone import Backbone, load_backbone
from lcam_cli.engine.engine import Engine
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.methods.options import MethodOptions
from lcam_cli.methods.registry import METHODS, make_method
from lcam_cli.networks.network import Network
from lcam_cli.networks.registry import load_network
from tests.networks.onnx_models import (
    BATCH,
    BODY,
    Residual,
    arrays_of,
    channels_last_model,
    conv,
    model_of,
    node,
    residual_model,
    save,
    tiny_file,
    tiny_model,
)
from tests.tiny import SMALL, tiny_network

pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper

Y = torch.tensor([0, 1, 2, 3, 0])


def pictures(count: int = 5, channels: int = 3, side: int = 32) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(4))


def own(network: nn.Module, layer: str | None = None, preprocess: Preprocess = SMALL) -> Engine:
    loaded = Network(network, "own", "none", preprocess=preprocess)
    return Engine(Backbone(loaded, layer), device="cpu")


def of_file(file: str, **settings: Any) -> Engine:
    return Engine(load_backbone(file, preprocess=SMALL, **settings), device="cpu")


def maps(engine: Engine, method: str) -> Tensor:
    made = make_method(method, engine.backbone, options=MethodOptions(rise_masks=60))
    return made(engine, engine.forward(pictures()), Y).saliency


def check_same(one: Engine, other: Engine, methods: Sequence[str] = ("scorecam", "rise")) -> None:
    """Logits, feature maps, their places and maps are the same."""
    a, b = one.forward(pictures()), other.forward(pictures())
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.A, b.A, rtol=0, atol=1e-4)
    assert one.backbone.grid == other.backbone.grid
    for method in methods:
        torch.testing.assert_close(maps(one, method), maps(other, method), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_file(tmp_path_factory.mktemp("tiny"))


METHODS_WITHOUT_GRADIENTS = ("rise", "scorecam", "groupcam", "sidu", "ablationcam", "cam")


def test_maps_are_those_of_the_same_network_in_pytorch(tiny: str) -> None:
    ours = of_file(tiny)
    assert ours.backbone.identity.layer == "r2"
    assert ours.backbone.is_split
    check_same(ours, own(tiny_network(), "3"), METHODS_WITHOUT_GRADIENTS)


def test_which_methods_work_and_what_is_said_of_the_others(tiny: str) -> None:
    backbone = load_backbone(tiny, preprocess=SMALL)
    for name, entry in METHODS.items():
        if entry.gradients:
            with pytest.raises(
                LcamError, match=r"needs gradients.* onnxruntime computes no gradients"
            ) as e:
                make_method(name, backbone)
            best, _, others = e.value.hint.partition("; these methods also work: ")
            listed = "ablationcam, eigencam, groupcam, occlusion, reciprocam, rise, scorecam, sidu"
            assert (best, sorted(others.split(", "))) == ("use cam", listed.split(", "))
        elif entry.picture_gradients or entry.attention:
            with pytest.raises(LcamError):
                make_method(name, backbone)
        else:
            make_method(name, backbone)


@pytest.mark.parametrize("typed", ["r1", "Relu of r1"])
def test_a_layer_by_its_tensors_name_or_its_nodes(tiny: str, typed: str) -> None:
    ours = of_file(tiny, layer=typed)
    assert ours.backbone.identity.layer == "r1"
    check_same(ours, own(tiny_network(), "1"), ("scorecam",))


@pytest.mark.parametrize("tensor", ["a.b.r2", "/features/features.3/Relu_output_0", "r2.", "a..b"])
def test_tensors_may_have_any_name(tmp_path: Path, tensor: str) -> None:
    model = tiny_model()
    for n in model.graph.node:
        n.input[:] = [tensor if name == "r2" else name for name in n.input]
        n.output[:] = [tensor if name == "r2" else name for name in n.output]
    file = save(model, tmp_path / "named.onnx")
    ours = of_file(file, layer=tensor)
    check_same(ours, own(tiny_network(), "3"), ("scorecam",))
    again = of_file(file, layer=ours.backbone.identity.layer)
    assert again.backbone.identity == ours.backbone.identity


def test_what_goes_around_a_layer_is_handed_over(tmp_path: Path) -> None:
    file = save(residual_model(), tmp_path / "residual.onnx")
    check_same(of_file(file, layer="c2"), own(Residual(), "second"), ("scorecam", "ablationcam"))
    assert of_file(file).backbone.identity.layer == "r2"


@pytest.mark.parametrize("sizes", [(BATCH, 32, 32, 3), (BATCH, BATCH, BATCH, 3), None])
def test_channels_last(tmp_path: Path, sizes: Any) -> None:
    file = save(channels_last_model(sizes=sizes), tmp_path / "keras.onnx")
    ours = of_file(file)
    assert ours.backbone.identity.layer == "r2"
    check_same(ours, own(nn.Sequential(*tiny_network()), "3"), ("scorecam", "cam"))


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batches_of_a_fixed_size(tmp_path: Path, batch: int) -> None:
    ours = of_file(tiny_file(tmp_path, sizes=(batch, 3, 32, 32)))
    assert ours.batch_size == 32
    check_same(ours, own(tiny_network(), "3"), METHODS_WITHOUT_GRADIENTS)


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_opsets(tmp_path: Path, opset: int) -> None:
    check_same(of_file(tiny_file(tmp_path, opset=opset)), own(tiny_network(), "3"))


def test_pictures_of_whole_numbers_are_not_normalised(tmp_path: Path) -> None:
    weights = arrays_of(tiny_network()) | {"scale": np.float32(255)}
    first = [node("Cast", ["x"], "floats", to=1), node("Div", ["floats", "scale"], "scaled")]
    body = [conv("scaled", "c1", "0"), *BODY[1:]]
    model = model_of([*first, *body, *tiny_model().graph.node[4:]], weights, dtype=2)
    file = save(model, tmp_path / "uint8.onnx")
    network = load_network(file)
    assert network.normalisation_known
    assert network.preprocess.mean == (0, 0, 0)
    ours = Engine(load_backbone(file), device="cpu")
    plain = own(tiny_network(), "3", Preprocess(32, 36, (0.0,) * 3, (1.0,) * 3))
    x = (pictures() * 255).round() / 255
    torch.testing.assert_close(ours.logits(x), plain.logits(x), rtol=0, atol=1e-5)


def test_half_precision(tmp_path: Path) -> None:
    weights = {name: array.astype(np.float16) for name, array in arrays_of(tiny_network()).items()}
    model = model_of(tiny_model().graph.node, weights, dtype=10, out_dtype=10)
    ours = of_file(save(model, tmp_path / "half.onnx"))
    theirs = own(tiny_network(), "3")
    seen, expected = ours.forward(pictures()), theirs.forward(pictures())
    torch.testing.assert_close(seen.logits, expected.logits, rtol=0, atol=1e-3)
    assert seen.A.dtype == torch.float32
    for method in ("cam", "scorecam"):
        torch.testing.assert_close(maps(ours, method), maps(theirs, method), rtol=0, atol=2e-2)


def test_pictures_in_double_precision(tmp_path: Path) -> None:
    first, *body = BODY
    first = conv("floats", "c1", "0")
    last = node("Cast", ["y"], "z", to=11)
    nodes = [node("Cast", ["x"], "floats", to=1), first, *body, *tiny_model().graph.node[4:], last]
    model = model_of(nodes, arrays_of(tiny_network()), dtype=11, out_dtype=11, outputs=["z"])
    file = save(model, tmp_path / "double.onnx")
    check_same(of_file(file), own(tiny_network(), "3"), ("cam",))


@pytest.mark.parametrize(
    ("op", "settings", "module"),
    [
        ("Softmax", {"axis": 1}, nn.Softmax(1)),
        ("Softmax", {}, nn.Softmax(1)),
        ("Sigmoid", {}, nn.Sigmoid()),
        ("LogSoftmax", {"axis": -1}, nn.LogSoftmax(1)),
    ],
)
def test_the_last_step_is_taken_off(
    tmp_path: Path, op: str, settings: dict[str, Any], module: nn.Module
) -> None:
    file = tiny_file(tmp_path, node(op, ["y"], "scores", **settings), outputs=["scores"])
    ours, theirs = of_file(file), own(nn.Sequential(*tiny_network(), module), "3")
    assert ours.backbone.identity.probabilities == theirs.backbone.identity.probabilities != ""
    torch.testing.assert_close(ours.logits(pictures()), theirs.logits(pictures()))
    check_same(ours, theirs, ("scorecam", "cam"))


def test_a_softmax_inside_the_graph_is_noticed(tmp_path: Path) -> None:
    half = np.float32(0.5)
    weights = arrays_of(tiny_network()) | {"half": half}
    last = [node("Softmax", ["y"], "p"), node("Mul", ["p", "half"], "a")]
    last.append(node("Add", ["a", "a"], "scores"))
    model = model_of([*tiny_model().graph.node, *last], weights, outputs=["scores"])
    ours = of_file(save(model, tmp_path / "inside.onnx"))
    assert ours.backbone.identity.probabilities == "softmax"
    expected = own(tiny_network(), "3").scores(pictures())
    torch.testing.assert_close(ours.scores(pictures()), expected, rtol=0, atol=1e-5)


def test_several_outputs(tmp_path: Path) -> None:
    more = [node("Mul", ["y", "y"], "squares"), node("ArgMax", ["y"], "label", axis=1)]
    file = tiny_file(tmp_path, *more, outputs=["label", "squares", "y"])
    with pytest.raises(LcamError, match="lcam cannot tell which of them are the logits") as caught:
        of_file(file)
    assert "--output squares or --output y" in caught.value.hint
    expected = own(tiny_network(), "3").logits(pictures())
    for output in ("y", "2"):
        torch.testing.assert_close(of_file(file, output=output).logits(pictures()), expected)
    with pytest.raises(LcamError, match="no output 'z'"):
        of_file(file, output="z")
    # Labels are no logits.
    file = tiny_file(tmp_path, more[1], outputs=["label", "y"])
    torch.testing.assert_close(of_file(file).logits(pictures()), expected)


def test_free_sizes_are_those_of_imagenet_unless_said(tmp_path: Path) -> None:
    file = tiny_file(tmp_path, sizes=(BATCH, 3, "height", "width"))
    assert load_network(file).preprocess.image_size == 224
    for size in (32, 48, (24, 40)):
        preprocess = Preprocess(size, 64)
        ours = Engine(load_backbone(file, preprocess=preprocess), device="cpu")
        theirs = own(tiny_network(), "3", preprocess)
        x = torch.rand(2, *preprocess.input_shape)
        torch.testing.assert_close(ours.forward(x).A, theirs.forward(x).A, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("channels", "sizes"), [(1, (BATCH, 1, 20, 28)), (5, (4, 5, 28, 20))])
def test_channels_and_rectangles(tmp_path: Path, channels: int, sizes: Any) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(channels, 5, 3, 2, 1)
    network = nn.Sequential(first, *tiny_network()[1:])
    model = model_of(tiny_model().graph.node, arrays_of(network), sizes=sizes)
    file = save(model, tmp_path / "grey.onnx")
    preprocess = load_network(file).preprocess
    assert preprocess.input_shape == sizes[1:]
    ours = Engine(load_backbone(file), device="cpu")
    theirs = own(network, "3", preprocess)
    x = torch.rand(3, *sizes[1:])
    for method in ("scorecam", "cam", "rise"):
        made = []
        for engine in (ours, theirs):
            options = MethodOptions(rise_masks=40)
            one = make_method(method, engine.backbone, options=options)
            made.append(one(engine, engine.forward(x), Y[:3]).saliency)
        torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-4)
    with pytest.raises(LcamError, match=f"expects {channels} channel.*, not 3"):
        load_backbone(file, preprocess=Preprocess(sizes[2:], 32))
    with pytest.raises(LcamError, match=r"expects images of .* not 64x64"):
        load_backbone(file, preprocess=Preprocess(64, 64).with_channels(channels))


def test_weights_that_are_measured_where_the_head_is_not_linear(tmp_path: Path) -> None:
    torch.manual_seed(2)
    features = tiny_network()[:4]
    head = nn.Sequential(nn.Flatten(), nn.Linear(384, 16), nn.ReLU(), nn.Linear(16, 4))
    network = nn.Sequential(*features, *head)
    nodes = [
        *BODY,
        node("Flatten", ["r2"], "flat"),
        node("Gemm", ["flat", "5.weight", "5.bias"], "hidden", transB=1),
        node("Relu", ["hidden"], "positive"),
        node("Gemm", ["positive", "7.weight", "7.bias"], "y", transB=1),
    ]
    ours = of_file(save(model_of(nodes, arrays_of(network)), tmp_path / "vgg.onnx"))
    theirs = own(network, "3")
    assert ours.backbone.linear_head() is None
    check_same(ours, theirs, ("scorecam", "ablationcam", "sidu"))
    # A step may pass where a ReLU switches: near, not the same.
    assert float((maps(ours, "groupcam") - maps(theirs, "groupcam")).abs().mean()) < 0.02
    with pytest.raises(LcamError, match=r"cam cannot explain [\s\S]*scorecam"):
        make_method("cam", ours.backbone)


def test_maps_of_class_scores_are_no_features(tmp_path: Path) -> None:
    """As SqueezeNet ends: a convolution to as many channels as there are classes."""
    torch.manual_seed(1)
    score = nn.Conv2d(6, 4, 1)
    network = nn.Sequential(*tiny_network()[:4], score, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    network.append(nn.Flatten())
    nodes = [
        *BODY,
        conv("r2", "scored", "4", strides=[1, 1], pads=[0, 0, 0, 0]),
        node("Relu", ["scored"], "positive"),
        node("GlobalAveragePool", ["positive"], "pooled"),
        node("Flatten", ["pooled"], "y"),
    ]
    ours = of_file(save(model_of(nodes, arrays_of(network)), tmp_path / "squeeze.onnx"))
    assert ours.backbone.identity.layer == "r2"
    check_same(ours, own(network), ("scorecam",))


def test_without_feature_maps_scores_alone(tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((3072, 4)).astype(np.float32)}
    nodes = [node("Flatten", ["x"], "flat"), node("MatMul", ["flat", "w"], "y")]
    ours = of_file(save(model_of(nodes, weights), tmp_path / "linear.onnx"))
    assert not ours.backbone.has_layer
    assert maps(ours, "rise").std() > 0.01
    with pytest.raises(
        LcamError, match=r"scorecam needs a target layer, but .* has no feature maps"
    ):
        make_method("scorecam", ours.backbone)


def test_names_of_classes_that_the_file_brings(tmp_path: Path) -> None:
    model = tiny_model()
    names = {0: "it's", 1: 'a "b"', 2: "c, d", 3: "é"}
    helper.set_model_props(
        model, {"names": str(names), "imgsz": "[32, 32]", "author": "Ultralytics"}
    )
    network = load_network(save(model, tmp_path / "yolo.onnx"))
    assert network.class_names == list(names.values())
    assert network.preprocess.mean == (0, 0, 0)
    for odd in ("{0: __import__('os').system('true')}", "{0: 'a', 2: 'b'}", "{" * 10**5, "[1]"):
        helper.set_model_props(model, {"names": odd})
        assert load_network(save(model, tmp_path / "odd.onnx")).class_names == []


def test_numbers_in_files_beside_it(tmp_path: Path, tiny: str) -> None:
    import onnx

    file = tmp_path / "big.onnx"
    onnx.save_model(
        tiny_model(), str(file), save_as_external_data=True, location="big.data", size_threshold=0
    )
    ours = of_file(str(file))
    check_same(ours, own(tiny_network(), "3"), ("cam",))
    first = ours.backbone.identity.weights
    data = bytearray((tmp_path / "big.data").read_bytes())
    data[2] ^= 1
    (tmp_path / "big.data").write_bytes(data)
    assert load_network(str(file)).weights != first


def test_inputs_of_old_files_list_weights_too(tmp_path: Path) -> None:
    model = tiny_model()
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        model.graph.input.append(value)
    model.ir_version = 3
    check_same(of_file(save(model, tmp_path / "old.onnx")), own(tiny_network(), "3"), ("cam",))


def test_precision_and_device_are_onnxruntimes(tiny: str) -> None:
    backbone = load_backbone(tiny, preprocess=SMALL)
    engine = Engine(backbone, device="cpu", precision="bf16")
    assert engine.hardware.precision == "fp32"


def test_it_gives_maps_of_its_file_again_and_knows_another(tiny: str, tmp_path: Path) -> None:
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(Path(tiny).read_bytes())
    one, other = load_network(tiny), load_network(tiny, str(moved))
    assert one.weights == other.weights
    with pytest.raises(LcamError, match="includes its own weights"):
        load_network(tiny, "weights.pt")
