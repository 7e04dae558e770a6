"""What an ONNX file says: a graph of nodes, with tensors that lie in it or in files beside it.

The field numbers are those of ``onnx.proto`` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
Nothing is computed here, and no number of a tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np

from lcam_cli.networks.onnx_graph import wire
from lcam_cli.networks.onnx_graph.wire import DamagedError

FLOAT, UINT8, FLOAT16, DOUBLE = 1, 2, 10, 11
FLOATS = (FLOAT, FLOAT16, DOUBLE)

# Bits a number takes, by the format's number of its type (STRING, 8, has none).
BITS = {
    **{1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64},
    **{14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2},
    26: 2,
}
_TYPES = {
    **{1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"},
    **{8: "string", 9: "bool", 10: "float16", 11: "double", 16: "bfloat16"},
}
_EXTERNAL = 1
_DEEPEST = 8


@dataclass(frozen=True)
class Value:
    """An input or an output of a graph.

    Attributes:
        name: Its name.
        type: The format's number of a tensor's type; 0 for what is no tensor, or of a type that is
            not told.
        dims: Its sizes, or names of sizes that are free, ``""`` without one; None where it does not
            say how many axes there are.
        is_tensor: Whether it is a tensor, no sequence and no map.
    """

    name: str
    type: int
    dims: tuple[int | str, ...] | None
    is_tensor: bool

    @property
    def type_name(self) -> str:
        """The type in words."""
        return _TYPES.get(self.type, f"type {self.type}")

    @property
    def described(self) -> str:
        """Name, type and sizes, for messages."""
        if not self.is_tensor:
            return f"{self.name} (no tensor)"
        dims = "of unknown sizes" if self.dims is None else ""
        if self.dims is not None:
            dims = "×".join(str(d) if d != "" else "?" for d in self.dims)
        return f"{self.name} ({self.type_name} {dims})"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file.

    Attributes:
        name: Its name.
        type: The format's number of its type.
        dims: Its sizes.
        raw: Its numbers as bytes, little-endian; None where they are written in another way.
        listed: How many numbers are written as a list; None where they are bytes.
        external: Where they lie if not in the file: keys and values, as ``location``.
        message: Its own bytes.
    """

    name: str
    type: int
    dims: tuple[int, ...]
    raw: memoryview | None
    listed: int | None
    external: dict[str, str] | None
    message: memoryview

    @property
    def count(self) -> int:
        """How many numbers it claims to have."""
        return prod(self.dims)

    @property
    def size(self) -> int:
        """How many bytes these take."""
        return -(-self.count * BITS.get(self.type, 8) // 8)


@dataclass(frozen=True)
class Attribute:
    """A setting of a node; what it does not have is None or empty."""

    name: str
    number: float | None
    whole: int | None
    wholes: tuple[int, ...]
    text: str
    tensors: tuple[StoredTensor, ...]
    graphs: tuple[Graph, ...]


@dataclass(frozen=True)
class Node:
    """A step of a graph.

    Attributes:
        op: What it does: ``Conv``.
        domain: Whose operator that is; ``""`` for ONNX's own.
        name: Its name, maybe empty.
        inputs: Names of tensors; ``""`` for one that is left out.
        outputs: The same.
        attributes: By name.
        message: Its own bytes.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]
    message: memoryview

    @property
    def read(self) -> set[str]:
        """All tensors that it reads, those included that its inner graphs take from around them."""
        names = set(self.inputs)
        for attribute in self.attributes.values():
            for graph in attribute.graphs:
                names |= graph.outer_names
        return names - {""}


@dataclass(frozen=True)
class Graph:
    """Steps, in an order in which they can run.

    Attributes:
        nodes: The steps.
        inputs: What it is given. Old files list the tensors that they hold, too.
        outputs: What it gives.
        tensors: What it holds, by name.
        others: Fields that are not looked into, as they are: its name, sparse tensors, types.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    tensors: dict[str, StoredTensor]
    others: tuple[memoryview, ...] = ()

    @property
    def given(self) -> list[Value]:
        """The inputs that it does not hold itself."""
        return [value for value in self.inputs if value.name not in self.tensors]

    @property
    def outer_names(self) -> set[str]:
        """Tensors of the graphs around it that it reads."""
        made = {name for node in self.nodes for name in node.outputs}
        own = made | {value.name for value in self.inputs} | set(self.tensors)
        read = {name for node in self.nodes for name in node.read}
        return (read | {value.name for value in self.outputs}) - own

    def all_nodes(self) -> Iterator[Node]:
        """Its nodes and those of graphs inside them."""
        for node in self.nodes:
            yield node
            for attribute in node.attributes.values():
                for graph in attribute.graphs:
                    yield from graph.all_nodes()


@dataclass(frozen=True)
class Model:
    """An ONNX file.

    Attributes:
        graph: What it computes.
        opsets: The version of the operators by their domain; ``""`` for ONNX's own.
        functions: Operators that the file defines itself: domain and name.
        function_nodes: The nodes that these are made of.
        metadata: What its maker wrote into it.
        others: Fields that are not looked into, as they are: versions, the maker, functions.
    """

    graph: Graph
    opsets: dict[str, int]
    functions: frozenset[tuple[str, str]] = frozenset()
    function_nodes: tuple[Node, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    others: tuple[memoryview, ...] = ()


def read_model(content: memoryview) -> Model:
    """Read a file's content.

    Raises:
        DamagedError: It is no ONNX model.
    """
    graphs: list[Graph] = []
    opsets: dict[str, int] = {}
    functions: set[tuple[str, str]] = set()
    function_nodes: list[Node] = []
    metadata: dict[str, str] = {}
    others: list[memoryview] = []
    for part in wire.fields(content):
        if part.number == 7:
            graphs.append(_graph(part.as_bytes, 0))
            continue
        if part.number == 8:
            domain, version = _opset(part.as_bytes)
            opsets[domain] = version
        elif part.number == 14:
            metadata |= _entry(part.as_bytes)
        elif part.number == 25:
            name, nodes = _function(part.as_bytes)
            functions.add(name)
            function_nodes += nodes
        elif part.number == 20:
            raise DamagedError("it holds a training graph")
        others.append(part.whole)
    if len(graphs) != 1:
        raise DamagedError(f"it holds {len(graphs) or 'no'} graphs")
    return Model(
        graphs[0], opsets, frozenset(functions), tuple(function_nodes), metadata, tuple(others)
    )


def _opset(message: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for part in wire.fields(message):
        if part.number == 1:
            domain = part.as_text
        elif part.number == 2:
            version = part.as_int
    return "" if domain == "ai.onnx" else domain, version


def _entry(message: memoryview) -> dict[str, str]:
    key, value = "", ""
    for part in wire.fields(message):
        if part.number == 1:
            key = part.as_text
        elif part.number == 2:
            value = part.as_text
    return {key: value}


def _function(message: memoryview) -> tuple[tuple[str, str], list[Node]]:
    name, domain, nodes = "", "", []
    for part in wire.fields(message):
        if part.number == 1:
            name = part.as_text
        elif part.number == 7:
            nodes.append(_node(part.as_bytes, 0))
        elif part.number == 10:
            domain = part.as_text
    return (domain, name), nodes


def _graph(message: memoryview, depth: int) -> Graph:
    if depth > _DEEPEST:
        raise DamagedError(f"its graphs are nested more than {_DEEPEST} deep")
    nodes: list[Node] = []
    inputs: list[Value] = []
    outputs: list[Value] = []
    tensors: dict[str, StoredTensor] = {}
    others: list[memoryview] = []
    for part in wire.fields(message):
        if part.number == 1:
            nodes.append(_node(part.as_bytes, depth))
        elif part.number == 5:
            tensor = read_tensor(part.as_bytes)
            if tensor.name in tensors:
                raise DamagedError(f"it holds two tensors {tensor.name!r}")
            tensors[tensor.name] = tensor
        elif part.number == 11:
            inputs.append(_value(part.as_bytes))
        elif part.number == 12:
            outputs.append(_value(part.as_bytes))
        else:
            others.append(part.whole)
    return Graph(tuple(nodes), tuple(inputs), tuple(outputs), tensors, tuple(others))


def _node(message: memoryview, depth: int) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: dict[str, Attribute] = {}
    op = domain = name = ""
    for part in wire.fields(message):
        if part.number == 1:
            inputs.append(part.as_text)
        elif part.number == 2:
            outputs.append(part.as_text)
        elif part.number == 3:
            name = part.as_text
        elif part.number == 4:
            op = part.as_text
        elif part.number == 5:
            attribute = _attribute(part.as_bytes, depth)
            attributes[attribute.name] = attribute
        elif part.number == 7:
            domain = "" if part.as_text == "ai.onnx" else part.as_text
    return Node(op, domain, name, tuple(inputs), tuple(outputs), attributes, message)


def _attribute(message: memoryview, depth: int) -> Attribute:
    name = text = ""
    number: float | None = None
    whole: int | None = None
    ints: list[int] = []
    tensors: list[StoredTensor] = []
    graphs: list[Graph] = []
    for part in wire.fields(message):
        if part.number == 1:
            name = part.as_text
        elif part.number == 2:
            number = part.as_float
        elif part.number == 3:
            whole = part.as_int
        elif part.number == 4:
            text = str(part.as_bytes, "utf-8", "replace")
        elif part.number in (5, 10):
            tensors.append(read_tensor(part.as_bytes))
        elif part.number in (6, 11):
            graphs.append(_graph(part.as_bytes, depth + 1))
        elif part.number == 8:
            ints += part.as_ints
    return Attribute(name, number, whole, tuple(ints), text, tuple(tensors), tuple(graphs))


def read_tensor(message: memoryview) -> StoredTensor:
    """Read where a tensor's numbers are."""
    name, kind, location = "", 0, 0
    dims: list[int] = []
    raw: memoryview | None = None
    listed = 0
    external: dict[str, str] = {}
    for part in wire.fields(message):
        if part.number == 1:
            dims += part.as_ints
        elif part.number == 2:
            kind = part.as_int
        elif part.number in (4, 5, 6, 7, 10, 11):  # floats, ints, texts, longs, doubles, ulongs
            listed += _how_many(part)
        elif part.number == 8:
            name = part.as_text
        elif part.number == 9:
            raw = part.as_bytes
        elif part.number == 13:
            external |= _entry(part.as_bytes)
        elif part.number == 14:
            location = part.as_int
    is_external = location == _EXTERNAL or bool(external)
    return StoredTensor(
        name,
        kind,
        tuple(dims),
        raw,
        None if raw is not None else listed,
        external if is_external else None,
        message,
    )


def _how_many(part: wire.Field) -> int:
    """How many numbers a field of them has."""
    if part.kind != wire.BYTES or part.number == 6:
        return 1
    if part.number in (4, 10):
        return len(part.as_bytes) // (4 if part.number == 4 else 8)
    # The last byte of each is below 128.
    return int(np.count_nonzero(np.frombuffer(part.as_bytes, np.uint8) < 0x80))


def _value(message: memoryview) -> Value:
    name, kind = "", 0
    dims: tuple[int | str, ...] | None = None
    is_tensor = False
    for part in wire.fields(message):
        if part.number == 1:
            name = part.as_text
        elif part.number == 2:
            for which in wire.fields(part.as_bytes):
                if which.number == 1:
                    is_tensor = True
                    kind, dims = _tensor_type(which.as_bytes)
    return Value(name, kind, dims, is_tensor)


def _tensor_type(message: memoryview) -> tuple[int, tuple[int | str, ...] | None]:
    kind = 0
    dims: list[int | str] | None = None
    for part in wire.fields(message):
        if part.number == 1:
            kind = part.as_int
        elif part.number == 2:
            dims = [_dim(d.as_bytes) for d in wire.fields(part.as_bytes) if d.number == 1]
    return kind, None if dims is None else tuple(dims)


def _dim(message: memoryview) -> int | str:
    """A size, or the name of a free one."""
    found: int | str = ""
    for part in wire.fields(message):
        if part.number == 1:
            found = part.as_int
        elif part.number == 2:
            found = part.as_text
    return "" if isinstance(found, int) and found < 1 else found
