"""ONNX files that are damaged, hostile or no classifiers of images: each is refused in a line."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lcam_cli import sandbox
from lcam_cli.engine.backbone import load_backbone
from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph import sandbox as onnx_sandbox
from lcam_cli.networks.onnx_graph import session, wire
from lcam_cli.networks.registry import load_network
from tests.networks.onnx_models import BATCH, BODY, HEAD, node, save, tiny_model
from tests.tiny import SMALL

pytest.importorskip("onnxruntime")


def refusal(file: Path | str) -> str:
    """The line that a file is refused with."""
    with pytest.raises(LcamError) as caught:
        load_backbone(str(file), preprocess=SMALL)
    assert "\n" not in caught.value.what
    assert "\n" not in caught.value.hint
    assert str(file) in caught.value.what
    return caught.value.what


def refusal_of(folder: Path, change: Callable[[onnx.ModelProto], object]) -> str:
    model = tiny_model()
    change(model)
    return refusal(save(model, folder / "changed.onnx"))


def zipped() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty"),
        (b"Dear reader, this is a letter.\n" * 9, "damaged or not an ONNX file"),
        (b"\x00" * 100, "damaged or not an ONNX file"),
        (b"\xff" * 100, "damaged or not an ONNX file"),
        (b"\x08\x08", "holds no graphs"),
        (zipped(), "not an ONNX file but a zip"),
        (gzip.compress(b"x" * 99, mtime=0), "compressed with gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x24\x00\x00\x00ORTM" + b"\0" * 50, "onnxruntime's own format"),
        (tiny_model().SerializeToString()[:-40], "damaged or not an ONNX file"),
        (tiny_model().SerializeToString()[:300], "damaged or not an ONNX file"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "some.onnx"
    file.write_bytes(content)
    assert line in refusal(file)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.onnx")


def with_input(model: onnx.ModelProto, dtype: int, sizes: Any) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", dtype, sizes))


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def sequence_input(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    model.graph.input[0].CopyFrom(value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda m: with_input(m, 7, [BATCH, 128]), "int64 batch×128"),
        (lambda m: with_input(m, 1, [BATCH, 64]), "2 axes"),
        (lambda m: with_input(m, 1, [BATCH, 3, 16]), "3 axes"),
        (lambda m: with_input(m, 1, [BATCH, 3, 8, 32, 32]), "5 axes"),
        (lambda m: with_input(m, 1, [1, 3, 2**20, 2**20]), "too large"),
        (lambda m: with_input(m, 1, [2**40, 3, 32, 32]), "too large"),
        (lambda m: with_input(m, 1, [1, 3, 9000, 32]), "9000"),
        (lambda m: with_input(m, 8, [1, 3, 32, 32]), "string"),
        (second_input, r"2 inputs (x (float batch×3×32×32), mask (float 1))"),
        (sequence_input, "no tensor"),
        (lambda m: m.graph.ClearField("input"), "no inputs"),
        (lambda m: m.graph.ClearField("output"), "no outputs"),
        (lambda m: m.graph.ClearField("node"), "no nodes"),
        (lambda m: m.ClearField("opset_import"), "which operators"),
    ],
)
def test_no_classifiers_of_pictures(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object], line: str
) -> None:
    assert line in refusal_of(tmp_path, change)


def of_a_library(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example.ops"
    model.opset_import.append(helper.make_opsetid("com.example.ops", 1))


def from_a_file(model: onnx.ModelProto) -> None:
    made = helper.make_node("EPContext", ["x"], ["c"], domain="com.microsoft", ep_cache_context="a")
    model.graph.node.append(made)


def branch(*nodes: onnx.NodeProto, tensors: Any = ()) -> onnx.GraphProto:
    out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "branch", [], [out], list(tensors))


def beside(tensor: onnx.TensorProto, location: str, **entries: int) -> None:
    """Have a tensor lie in a file."""
    told = {"location": location, **entries}
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.extend(
        onnx.StringStringEntryProto(key=k, value=str(v)) for k, v in told.items()
    )


def branch_with_a_file(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros((1, 4), np.float32), "t")
    beside(tensor, "t.data")
    inside = branch(node("Add", ["y", "t"], "sum"), tensors=[tensor])
    yes = numpy_helper.from_array(np.array(True), "yes")
    model.graph.initializer.append(yes)
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["z"], then_branch=inside, else_branch=inside)
    )
    model.graph.output[0].name = "z"


def test_operators_that_are_not_onnxruntimes(tmp_path: Path) -> None:
    line = refusal_of(tmp_path, of_a_library)
    assert "needs the operator Conv of com.example.ops" in line
    assert "EPContext" in refusal_of(tmp_path, from_a_file)
    assert "inner graph is in a separate file" in refusal_of(tmp_path, branch_with_a_file)

    def unknown(model: onnx.ModelProto) -> None:
        model.graph.node[1].op_type = "NoSuchOperator"

    assert "NoSuchOperator" in refusal_of(tmp_path, unknown)


def test_operators_that_are_too_new(tmp_path: Path) -> None:
    def newer(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 999

    assert "999" in refusal_of(tmp_path, newer)


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/hostname", "a/../../secret", "link", "linked/secret", "..\\secret", ""],
)
def test_numbers_are_read_from_the_files_own_folder_alone(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 24))
    (folder / "link").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)

    def lead_out(model: onnx.ModelProto) -> None:
        beside(model.graph.initializer[-2], location)

    model = tiny_model()
    lead_out(model)
    assert "outside the file's folder" in refusal(save(model, folder / "some.onnx"))


@pytest.mark.parametrize("location", ["a" * 5000, "circle"])
def test_files_that_there_cannot_be_are_missing(tmp_path: Path, location: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    line = refusal_of(tmp_path, lambda model: beside(model.graph.initializer[-2], location))
    assert "which is missing" in line


def test_a_setting_without_its_number(tmp_path: Path) -> None:
    """Fields of ``onnx.proto``: a graph (7) has nodes (1), these attributes (5), of a float (2)."""
    attribute = wire.field(1, "alpha") + wire.field(2, b"")
    graph = wire.field(1, wire.field(4, "Elu") + wire.field(5, attribute))
    (tmp_path / "some.onnx").write_bytes(wire.field(7, graph))
    assert "field 2 is not a 32-bit number" in refusal(tmp_path / "some.onnx")


def test_a_convolution_without_weights_that_nothing_needs(tmp_path: Path) -> None:
    model = tiny_model()
    given = model.graph.input[0].name
    model.graph.node.insert(0, helper.make_node("QLinearConv", [given, "scale"], ["odd"]))
    assert load_backbone(save(model, tmp_path / "some.onnx"), preprocess=SMALL).num_classes == 4


def test_numbers_that_are_not_where_they_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(96))

    def said(location: str, **entries: Any) -> str:
        return refusal_of(
            tmp_path, lambda model: beside(model.graph.initializer[-2], location, **entries)
        )

    assert "missing" in said("none.data")
    assert "claims bytes 8 to 104 of w.data, which has only 96" in said("w.data", offset=8)
    for entries in ({"offset": -1}, {"length": 10**18}, {"length": 8}, {"offset": "x"}):
        assert "does not say where its 96 bytes are" in said("w.data", **entries)


def test_sizes_are_held_against_what_is_there(tmp_path: Path) -> None:
    def claim(model: onnx.ModelProto) -> None:
        del model.graph.initializer[-2].dims[:]
        model.graph.initializer[-2].dims.extend([10**6, 10**6])

    line = refusal_of(tmp_path, claim)
    assert "claims 1000000×1000000 numbers but holds 24" in line

    def of_a_node(model: onnx.ModelProto) -> None:
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), "t")
        tensor.dims[0] = 2**40
        model.graph.node.append(helper.make_node("Constant", [], ["t"], value=tensor))

    assert "claims 1099511627776 numbers" in refusal_of(tmp_path, of_a_node)


def huge(model: onnx.ModelProto, values: int) -> None:
    """Have the graph make a tensor of so many numbers, and add its mean to the logits."""
    shape = numpy_helper.from_array(np.array([values]), "huge")
    model.graph.initializer.append(shape)
    model.graph.node.extend(
        [
            node("ConstantOfShape", ["huge"], "made"),
            node("ReduceSum", ["made"], "total", keepdims=0),
            node("Add", ["y", "total"], "z"),
        ]
    )
    model.graph.output[0].name = "z"


def test_a_graph_that_takes_terabytes_ends_in_a_line(tmp_path: Path) -> None:
    line = refusal_of(tmp_path, lambda model: huge(model, 10**13))
    assert "memory" in line or "alloc" in line


def endless(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["state", "state"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("Loop", ["", "yes", "y"], ["z"], body=body))
    model.graph.output[0].name = "z"


@pytest.fixture
def new_process() -> Iterator[None]:
    onnx_sandbox.PROCESS.close()
    yield
    onnx_sandbox.PROCESS.close()


@pytest.mark.usefixtures("new_process")
def test_a_graph_without_an_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_sandbox, "SECONDS", 1.0)
    assert "takes more than 1 s" in refusal_of(tmp_path, endless)


@pytest.mark.usefixtures("new_process")
def test_a_crash_of_onnxruntime_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies in the middle stands for it."""
    start = "import os, sys; sys.stdin.readline(); os.abort()"
    monkeypatch.setattr(sandbox, "_START", start)
    assert "crashes onnxruntime" in refusal_of(tmp_path, lambda model: None)


def test_outputs_that_are_no_scores(tmp_path: Path) -> None:
    def maps_out(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "r2"

    def labels_out(model: onnx.ModelProto) -> None:
        model.graph.node.append(node("ArgMax", ["y"], "label", axis=1))
        model.graph.output[0].name = "label"

    def nothing_out(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "never made"

    def zip_map(model: onnx.ModelProto) -> None:
        model.graph.node.append(
            helper.make_node(
                "ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3]
            )
        )
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name="z"))

    assert "not logits (B, R)" in refusal_of(tmp_path, maps_out)
    assert "not logits (B, R)" in refusal_of(tmp_path, labels_out)
    assert "never made" in refusal_of(tmp_path, nothing_out)
    assert "none of its outputs is a tensor" in refusal_of(tmp_path, zip_map)


def test_a_size_that_the_graph_cannot_take(tmp_path: Path) -> None:
    nodes = [*BODY, node("Flatten", ["r2"], "flat")]
    nodes.append(node("Gemm", ["flat", "w"], "y"))
    model = tiny_model(sizes=[BATCH, 3, "h", "w"])
    del model.graph.node[len(BODY) :]
    model.graph.node.extend(nodes[len(BODY) :])
    weights = np.zeros((6 * 12 * 12, 4), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    file = save(model, tmp_path / "fixed.onnx")
    with pytest.raises(LcamError, match="onnxruntime does not run it") as caught:
        load_backbone(file, preprocess=SMALL)
    assert "--image-size" in caught.value.hint


def test_layers_that_there_are_not(tmp_path: Path) -> None:
    file = save(tiny_model(), tmp_path / "tiny.onnx")
    for layer, line in (
        ("r3", "there is no tensor or node 'r3'"),
        ("y", "do not depend on 'y'"),
        ("flat", r"layer 'flat' returns \(2, 6\), not feature maps"),
        ("6.weight", "there is no tensor or node"),
    ):
        with pytest.raises(LcamError, match=line):
            load_backbone(file, preprocess=SMALL, layer=layer)


def test_without_onnxruntime_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(LcamError, match="onnxruntime is not installed") as caught:
        load_network(save(tiny_model(), tmp_path / "tiny.onnx"))
    assert "pip install" in caught.value.hint


def test_weights_cannot_be_drawn_anew(tmp_path: Path) -> None:
    with pytest.raises(LcamError, match="cannot be randomised"):
        load_backbone(save(tiny_model(), tmp_path / "tiny.onnx"), preprocess=SMALL, redrawable=True)


def test_what_onnxruntime_says_in_one_line() -> None:
    error = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Node (a)\n has wrong input")
    assert session.why(error) == "Node (a) has wrong input"
    assert len(HEAD) == 3
