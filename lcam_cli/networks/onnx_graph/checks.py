"""What is wrong with an ONNX file, before onnxruntime sees it.

onnxruntime is a large C++ library that takes a file at its word. So what a file claims is held
against what it brings: sizes against bytes, operators against those that there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lcam_cli.errors import LcamError
from lcam_cli.networks.onnx_graph.model import (
    BITS,
    FLOATS,
    UINT8,
    Graph,
    Model,
    Node,
    StoredTensor,
    Value,
    read_model,
)
from lcam_cli.networks.onnx_graph.wire import DamagedError
from lcam_cli.networks.weights.file_kinds import check_is_file

# onnxruntime's own operators; those of its training and of vendors' compilers are left out.
_DOMAINS = ("", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.preview")
_READ_FILES = ("EPContext", "PythonOp", "PyOp")
_LARGEST_FILE = 2**31 - 1
_MOST_VALUES = 2**28
_EXPORT = "export it again: torch.onnx.export, tf2onnx, …"

_BEGINNINGS = (
    (b"PK", "a zip, such as a file of torch.save or an exported program (.pt2)"),
    (b"\x89HDF", "an HDF5 file, such as Keras's"),
    (b"version https://git-lfs", "a pointer of Git LFS: get the file itself with git lfs pull"),
    (b"\x1f\x8b", "compressed with gzip: unpack it"),
    (b"ORTM", "a model in onnxruntime's own format: pass the .onnx that it was made from"),
)


def read_checked(path: Path) -> Model:
    """Read an ONNX file, and check all that can be checked without running it.

    Raises:
        LcamError: It is missing, damaged, or something else; it needs operators that are not
            onnxruntime's own; a tensor claims other sizes than it brings; or it takes no images.
    """
    check_is_file(path)
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise LcamError(f"{path} has {size} bytes: an ONNX file has less than 2 GB", _EXPORT)
        content = path.read_bytes()
    except OSError as error:
        raise LcamError(f"cannot read {path}: {error.strerror}", "") from None
    if not content:
        raise LcamError(f"{path} is empty", "copy it again")
    for beginning, kind in _BEGINNINGS:
        if content[4:8] == beginning or content.startswith(beginning):
            raise LcamError(f"{path} is not an ONNX file but {kind}", "pass a file FILE.onnx")
    try:
        model = read_model(memoryview(content))
        _check(model)
    except DamagedError as error:
        raise LcamError(f"{path} is damaged or not an ONNX file: {error}", _EXPORT) from None
    except LcamError as error:
        raise LcamError(f"{path} refused: {error.what}", error.hint) from None
    return model


def image_input(model: Model) -> Value:
    """The one input of a model.

    Raises:
        LcamError: It has none or several, or takes no images.
    """
    given = model.graph.given
    if len(given) != 1:
        listed = f" ({', '.join(value.described for value in given)})" if given else ""
        raise LcamError(
            f"it has {len(given) or 'no'} inputs{listed}, not one batch of images",
            "export it with images as its only input",
        )
    value = given[0]
    if not value.is_tensor or value.type not in (*FLOATS, UINT8):
        raise LcamError(
            f"its input is {value.described}: images are float, float16, double or uint8",
            "pass an image classifier",
        )
    if value.dims is not None and len(value.dims) != 4:
        raise LcamError(
            f"its input is {value.described}: {len(value.dims)} axes, but images have 4 "
            "(batch, channels, height, width)",
            "pass an image classifier",
        )
    total = 1
    for size in value.dims or ():
        total *= size if isinstance(size, int) else 1
    if total > _MOST_VALUES:
        raise LcamError(f"its input is {value.described}: too large for an image", _EXPORT)
    return value


def tensors_of(graph: Graph) -> Iterator[StoredTensor]:
    """All tensors of a graph, those of its nodes and of graphs inside them included."""
    yield from graph.tensors.values()
    yield from _tensors_inside(graph.nodes)


def _tensors_inside(nodes: tuple[Node, ...]) -> Iterator[StoredTensor]:
    for node in nodes:
        for attribute in node.attributes.values():
            yield from attribute.tensors
            for graph in attribute.graphs:
                yield from tensors_of(graph)


def _check(model: Model) -> None:
    graph = model.graph
    if not graph.nodes:
        raise LcamError("its graph has no nodes", _EXPORT)
    if not graph.outputs:
        raise LcamError("its graph has no outputs", _EXPORT)
    if not model.opsets:
        raise LcamError("it does not say which operators it needs", _EXPORT)
    image_input(model)
    for node in (*graph.all_nodes(), *model.function_nodes):
        known = node.domain in _DOMAINS and node.op not in _READ_FILES
        if not known and (node.domain, node.op) not in model.functions:
            raise LcamError(
                f"it needs the operator {node.op} of {node.domain or 'ai.onnx'}, which onnxruntime "
                "does not include (lcam loads no operator libraries)",
                "export it with only standard ONNX operators",
            )
    made = [name for node in graph.nodes for name in node.outputs if name]
    if len(set(made)) != len(made):
        raise DamagedError("two nodes produce the same tensor")
    inside = [*_tensors_inside(graph.nodes), *_tensors_inside(model.function_nodes)]
    for tensor in (*graph.tensors.values(), *inside):
        _check_tensor(tensor)
    for tensor in inside:
        if tensor.external is not None:
            raise LcamError(
                f"tensor {tensor.name!r} of an inner graph is in a separate file",
                "export it with its data in the file",
            )


def _check_tensor(tensor: StoredTensor) -> None:
    """Check that a tensor brings as many numbers as it claims to have."""
    if any(size < 0 for size in tensor.dims):
        raise DamagedError(f"tensor {tensor.name!r} has sizes {tensor.dims}")
    if tensor.external is not None:
        if tensor.type not in BITS:
            raise DamagedError(f"tensor {tensor.name!r} does not have a numeric type")
        return
    brought = tensor.count if tensor.listed is None else tensor.listed
    if tensor.raw is not None and tensor.type in BITS:
        right = len(tensor.raw) == tensor.size
        brought = len(tensor.raw) * 8 // BITS[tensor.type]
    elif tensor.type in (14, 15):  # pairs
        right = brought == 2 * tensor.count
    else:
        right = brought == tensor.count or BITS.get(tensor.type, 8) < 8  # several in one number
        right = right and brought <= tensor.count
    if not right:
        sizes = "×".join(map(str, tensor.dims)) or "1"
        raise LcamError(
            f"tensor {tensor.name!r} claims {sizes} numbers but holds {brought}",
            "export it again: the file is damaged or malicious",
        )
