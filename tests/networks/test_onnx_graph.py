"""Reading and cutting ONNX files, held against the package onnx."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import numpy_helper

from lcam_cli.engine.backbone import load_backbone
from lcam_cli.engine.device import Hardware
from lcam_cli.engine.engine import hardware_for
from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph import wire
from lcam_cli.networks.onnx_graph.cutting import Given, cut, whole, written
from lcam_cli.networks.onnx_graph.layouts import TensorKind
from lcam_cli.networks.onnx_graph.model import read_model
from lcam_cli.networks.onnx_graph.names import module_name
from tests.networks.onnx_models import channels_last_model, residual_model, tiny_file, tiny_model
from tests.tiny import SMALL

MODELS = [tiny_model(), channels_last_model(), residual_model()]


@pytest.mark.parametrize("model", MODELS)
def test_what_is_read_is_what_onnx_reads(model: onnx.ModelProto) -> None:
    ours = read_model(memoryview(model.SerializeToString()))
    assert ours.opsets == {o.domain: o.version for o in model.opset_import}
    for mine, theirs in zip(ours.graph.nodes, model.graph.node, strict=True):
        assert (mine.op, mine.name) == (theirs.op_type, theirs.name)
        assert mine.inputs == tuple(theirs.input)
        assert mine.outputs == tuple(theirs.output)
        for attribute in theirs.attribute:
            read = mine.attributes[attribute.name]
            assert read.wholes == tuple(attribute.ints)
            assert (read.whole or 0) == attribute.i
    for tensor in model.graph.initializer:
        read_tensor = ours.graph.tensors[tensor.name]
        assert read_tensor.dims == tuple(tensor.dims)
        assert bytes(read_tensor.raw or b"") == numpy_helper.to_array(tensor).tobytes()
    (given,) = ours.graph.given
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert given.dims == tuple(d.dim_param or d.dim_value for d in dims)


@pytest.mark.parametrize("model", MODELS)
def test_a_part_is_a_model_that_onnx_takes(model: onnx.ModelProto) -> None:
    ours = read_model(memoryview(model.SerializeToString()))
    sizes = (1, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]))
    part = whole(ours.graph, ["y"])
    given = [Given("x", TensorKind(1, sizes), None)]
    again = onnx.load_model_from_string(written(ours, part, given, lambda tensor: tensor))
    onnx.shape_inference.infer_shapes(again, strict_mode=True)
    assert list(again.graph.node) == list(model.graph.node)
    read = {name for n in model.graph.node for name in n.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    assert list(again.graph.initializer) == kept


def test_every_step_lies_on_one_side_of_a_cut() -> None:
    graph = read_model(memoryview(residual_model().SerializeToString())).graph
    halves = cut(graph, "c2", ["y"])
    assert halves is not None
    before, after = halves
    assert [n.outputs[0] for n in before.nodes] == ["c1", "r1", "c2"]
    # What goes around the layer, and the images, of which the shape is asked.
    assert after.given[0] == "c2"
    assert set(after.given) == {"c2", "r1", "x"}
    assert before.ends == after.given
    made = {name for n in (*before.nodes, *after.nodes) for name in n.outputs}
    assert len(made) == len(before.nodes) + len(after.nodes) == len(graph.nodes)
    # A layer behind which a size of an earlier tensor is asked.
    (_, later) = cut(graph, "flat", ["y"]) or ((), None)
    assert later is not None
    assert later.given == ("flat",)
    assert cut(graph, "y", ["y"]) is None
    assert cut(graph, "sizes", ["c2"]) is None


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)])
def test_numbers_on_the_wire(number: int) -> None:
    (one,) = wire.fields(memoryview(wire.field(7, number)))
    assert (one.number, one.as_int) == (7, number)


@pytest.mark.parametrize(
    "damaged",
    [b"\x80", b"\x0a\x05abc", b"\x80" * 11, b"\x00\x01", b"\x0b", b"\x09\x01", b"\x0a\xff\xff\x7f"],
)
def test_what_is_no_message(damaged: bytes) -> None:
    with pytest.raises(wire.DamagedError):
        list(wire.fields(memoryview(damaged)))


def test_graphs_deep_inside_each_other_are_refused() -> None:
    graph = wire.field(2, "g")
    for _ in range(300):
        graph = wire.field(1, wire.field(5, wire.field(6, graph)))
    with pytest.raises(wire.DamagedError, match="deep"):
        read_model(memoryview(wire.field(7, graph)))


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        ("/features/features.0/Relu_output_0", "/features/features.0/Relu_output_0"),
        ("model/dense/BiasAdd:0", "model/dense/BiasAdd:0"),
        ("train.forward", "tensor train_forward"),
        ("a..b", "tensor a__b"),
        ('it\'s "x"', "it_s _x_"),
    ],
)
def test_names_that_modules_can_bear(tensor: str, name: str) -> None:
    assert module_name(tensor) == name


def test_it_runs_where_onnxruntime_can(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(tiny_file(tmp_path_factory.mktemp("device")), preprocess=SMALL)
    monkeypatch.setattr(backbone.network, "devices", ("cpu",))

    def choose(device: str = "auto", precision: str = "auto", _use: str = "maps") -> Hardware:
        return Hardware(torch.device("cpu" if device == "cpu" else "cuda"), "bf16")

    monkeypatch.setattr("lcam_cli.engine.hardware.choose_hardware", choose)
    assert hardware_for(backbone, "auto", "auto") == Hardware(torch.device("cpu"), "fp32")
    with pytest.raises(LcamError, match="onnxruntime here computes only on cpu, not on cuda"):
        hardware_for(backbone, "cuda", "auto")
    monkeypatch.setattr(backbone.network, "devices", ("cpu", "cuda"))
    assert hardware_for(backbone, "auto", "auto") == Hardware(torch.device("cuda"), "fp32")
    notes = list(backbone.notes)
    hardware_for(backbone, "cpu", "bf16")
    assert "--precision bf16 changes nothing" in backbone.notes[len(notes)]
