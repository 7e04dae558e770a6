"""Building a network from the graph of an exported program.

It calls only functions that are known to be harmless (``networks.operators``). Modules of the
exported network come back under their names, each passing on the output of what it was exported
as, so that layers are found and named as in the network itself; the common ones (convolutions,
norms, pools, …) come back as what they were (``networks.program_modules``).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from lcam_cli.errors import LcamError
from lcam_cli.networks.archive import DTYPES
from lcam_cli.networks.operators import ATEN, find_function, positional_names, takes_device
from lcam_cli.networks.program_modules import common_module

# Those that only check, and give nothing.
_CHECKS = (f"{ATEN}_assert", f"{ATEN}sym_constrain_range")
_DROPOUTS = tuple(
    f"{ATEN}{kind}dropout{in_place}.default"
    for kind in ("", "feature_", "alpha_", "feature_alpha_")
    for in_place in ("", "_")
)
# Where the first size may be a number that means the batch.
_RESHAPES = tuple(f"{ATEN}{n}.default" for n in ("view", "_unsafe_view", "reshape", "expand"))
_MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_STRIDED = 7
# What PyTorch 2.6 writes for a module where a function was called in none.
_NO_MODULE = "_empty_nn_module_stack"
_UNKNOWN, _KEYWORD = 0, 2

EXPORT = "export it like this: torch.export.export(model.eval(), (image,))"
_OWN = "if you trust it, load it in your own function: --backbone file.py:function"


def is_known(target: str) -> bool:
    """Whether a program may call a function of that name."""
    return target.startswith(_CHECKS) or target in _DROPOUTS or find_function(target) is not None


class _Part(nn.Module):
    """Stands for a module of the exported network: has its parameters, passes its output on.

    Called with that output, and before it the image if that is what the module was given.
    """

    def forward(self, *given: Tensor) -> Tensor:
        return given[-1]


class _Call(NamedTuple):
    """A module's call while the network ran: what tells it from others, and the module's name."""

    key: str
    path: str


class GraphBuilder:
    """Builds a network from the JSON of its graph.

    Args:
        graph_module: The program's ``graph_module``.
        tensors: Its weights, by name.

    Attributes:
        shape: (C, H, W) of the images it takes; known once it is built.
        batch: Its size, where it was exported for one size; else the name of that size.
    """

    def __init__(self, graph_module: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.shape = (0, 0, 0)
        self._signature = graph_module["signature"]
        self._json = graph_module["graph"]
        self._tensors = tensors
        self._root: nn.Module = _Part()
        self._graph = fx.Graph()
        self._picture = self._graph.placeholder("x")
        self._values: dict[str, fx.Node] = {}  # by the names that the JSON gives them
        self._of_picture: set[_Call] = set()  # those that begin with the image
        self.batch: int | str = 0

    def build(self) -> nn.Module:
        """The network, in eval mode.

        Raises:
            LcamError: It calls what is not allowed, or is no classifier in eval mode.
            Exception: The graph does not fit together.
        """
        self._read_inputs()
        nodes = [n for n in self._json["nodes"] if not n["target"].startswith(_CHECKS)]
        stacks = [_calls(node) for node in nodes]
        for i, (node, stack) in enumerate(zip(nodes, stacks, strict=True)):
            before, after = (stacks[j] if 0 <= j < len(stacks) else [] for j in (i - 1, i + 1))
            depths = range(1, len(stack) + 1)
            begun = [stack[d - 1] for d in depths if before[:d] != stack[:d]]
            ended = [stack[d - 1] for d in depths if after[:d] != stack[:d]]
            if self._values.get(_first_given(node)) is self._picture:
                self._of_picture.update(begun)
            alone = bool(stack) and begun[-1:] == ended[-1:] == stack[-1:]
            self._add(node, ended, alone)
        outputs = [_only(spec) for spec in self._signature["output_specs"]]
        if [kind for kind, _ in outputs] != ["user_output"]:
            raise LcamError("it returns more than logits", EXPORT)
        self._graph.output(self._argument(outputs[0][1]["arg"]))
        for parameter in [n for n in self._graph.nodes if n.op == "get_attr" and not n.users]:
            self._graph.erase_node(parameter)
        return fx.GraphModule(self._root, self._graph).eval()

    # --- what goes in -----------------------------------------------------------------------------

    def _read_inputs(self) -> None:
        pictures = []
        for spec in self._signature["input_specs"]:
            kind, entry = _only(spec)
            if kind == "user_input":
                pictures.append(entry["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                name = _checked(entry[f"{kind}_name"])
                self._keep(name, self._tensors[name])
                self._values[entry["arg"]["name"]] = self._graph.create_node("get_attr", name)
            else:
                raise LcamError(f"its input is a {kind}", EXPORT)
        if len(pictures) != 1:
            raise LcamError(f"it has {len(pictures)} inputs, not only images", EXPORT)
        self._values[pictures[0]] = self._picture
        batch, *shape = (_size(n) for n in self._json["tensor_values"][pictures[0]]["sizes"])
        if len(shape) != 3:
            raise LcamError(f"it expects {shape}, not images (C, H, W)", EXPORT)
        C, H, W = shape
        if not (isinstance(C, int) and isinstance(H, int) and isinstance(W, int)):
            raise LcamError("it accepts images of any size", "export it with one size")
        self.batch, self.shape = batch, (C, H, W)

    def _keep(self, name: str, tensor: Tensor) -> None:
        """Put a tensor where the exported network had it."""
        path, _, last = name.rpartition(".")
        part = self._part(path)
        if tensor.is_floating_point():
            part.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
        else:
            part.register_buffer(last, tensor)

    def _part(self, path: str) -> nn.Module:
        """The module of that name, made where there is none."""
        part = self._root
        for name in path.split(".") if path else ():
            if name not in dict(part.named_children()):
                part.add_module(name, _Part())
            part = part.get_submodule(name)
        return part

    # --- the graph --------------------------------------------------------------------------------

    def _add(self, node: Mapping[str, Any], ended: Sequence[_Call], alone: bool) -> None:
        """Add a function's call and the modules it was made within.

        Args:
            node: The call.
            ended: Those of the modules that end with it, outermost first.
            alone: Whether the innermost one of all did nothing but this call.
        """
        arguments = {given["name"]: given["arg"] for given in node["inputs"]}
        if any(arguments.get(mode, {}).get("as_bool") for mode in ("train", "training")):
            raise LcamError("it was exported in training mode", EXPORT)
        if node["target"] in _DROPOUTS:  # in eval mode it is nothing, and no layer
            made, ended = self._values[_first_given(node)], ended[:-1]
        elif alone and (module := self._common_module(node, ended[-1].path)) is not None:
            path = _checked(ended[-1].path)
            parent, _, last = path.rpartition(".")
            self._part(parent).add_module(last, module)
            made = self._graph.call_module(path, (self._values[_first_given(node)],))
            ended = ended[:-1]
        else:
            made = self._call(node)
        for call in reversed(ended) if _is_one_tensor(node) else ():
            self._part(_checked(call.path))
            # The trunk differs from its last layer by what it is given.
            given = (self._picture, made) if call in self._of_picture else (made,)
            made = self._graph.call_module(call.path, given)
        self._name_outputs(node, made)

    def _call(self, node: Mapping[str, Any]) -> fx.Node:
        function = find_function(node["target"])
        if function is None:
            raise LcamError(f"it calls {node['target']!r}, which is not known to lcam", _OWN)
        fixed = node["target"] in _RESHAPES and self._is_of_batch(node)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for given in node["inputs"]:
            value = self._argument(given["arg"])
            if fixed and isinstance(value, list) and value and value[0] == self.batch:
                size = self._graph.call_method("size", (self._picture, 0))
                value = [size, *value[1:]]
            if _is_named(function, given, len(positional)):
                named[given["name"]] = value
            else:
                positional.append(value)
        bound = dict(zip(positional_names(function), positional, strict=False)) | named
        if _trains(bound):
            raise LcamError("it was exported in training mode", EXPORT)
        if any(takes_device(function, k) and isinstance(v, str) for k, v in bound.items()):
            raise LcamError("it names its own device", EXPORT)
        return self._graph.call_function(function, tuple(positional), named)

    def _is_of_batch(self, node: Mapping[str, Any]) -> bool:
        """Whether the first size of the tensor that a call is given is the batch's."""
        sizes = self._json["tensor_values"][_first_given(node)]["sizes"]
        return bool(sizes) and _size(sizes[0]) == self.batch

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        """What a function is given, as the JSON has it."""
        kind, value = _only(argument)
        found: Any
        match kind:
            case "as_none":
                found = None
            case "as_tensor":
                found = self._values[value["name"]]
            case "as_tensors":
                found = [self._values[tensor["name"]] for tensor in value]
            case "as_optional_tensors" | "as_sym_ints":
                found = [self._argument(one) for one in value]
            case "as_optional_tensor" | "as_sym_int":
                found = self._argument(value)
            case "as_name":
                found = self._values[value]
            case "as_int" | "as_float" | "as_bool" | "as_ints" | "as_floats" | "as_string":
                found = value
            case "as_scalar_type":
                found = DTYPES[value]
            case "as_memory_format":
                found = _MEMORY_FORMATS[value]
            case "as_layout" if value == _STRIDED:
                found = torch.strided
            case "as_device":  # where the image is, whatever it was exported on
                found = self._graph.call_function(getattr, (self._picture, "device"))
            case _:
                raise LcamError(f"it passes a function {kind.removeprefix('as_')!r}", _OWN)
        return found

    def _name_outputs(self, node: Mapping[str, Any], made: fx.Node) -> None:
        if _is_one_tensor(node):
            self._values[node["outputs"][0]["as_tensor"]["name"]] = made
            return
        kind, output = _only(node["outputs"][0])
        if kind == "as_sym_int":
            self._values[output["as_name"]] = made
            return
        several = output if kind == "as_tensors" else [o.get("as_tensor") for o in node["outputs"]]
        for i, one in enumerate(several):
            if one is not None:
                part = self._graph.call_function(operator.getitem, (made, i))
                self._values[one["name"]] = part

    def _common_module(self, node: Mapping[str, Any], path: str) -> nn.Module | None:
        """The module of torch.nn that made this call, where it is a common one; None for others."""
        function = node["target"].removeprefix(ATEN).removesuffix(".default")
        values = {g["name"]: self._argument(g["arg"]) for g in node["inputs"]}
        settings = {k: v for k, v in values.items() if not isinstance(v, fx.Node) and v != []}
        nodes = [str(v.target) for v in values.values() if isinstance(v, fx.Node)]
        return common_module(function, settings, nodes[1:], path, self._tensors) if nodes else None


def _only(union: Mapping[str, Any]) -> tuple[str, Any]:
    """Kind and value of what may be of one of several kinds."""
    ((kind, value),) = ((k, v) for k, v in union.items() if v is not None)
    return kind, value


def _size(union: Mapping[str, Any]) -> int | str:
    """A size: a number, or the text of an expression, which is compared and never evaluated."""
    kind, value = _only(union)
    return int(value) if kind == "as_int" else str(value["expr_str"])


def _is_named(function: Callable[..., Any], given: Mapping[str, Any], place: int) -> bool:
    """Whether an argument goes by its name: as the program says, or else as the function has it."""
    kind = given.get("kind") or _UNKNOWN
    if kind == _UNKNOWN and (names := positional_names(function)):  # before PyTorch 2.7
        return names[place : place + 1] != [given["name"]]
    return bool(kind == _KEYWORD)


def _trains(given: Mapping[str, Any]) -> bool:
    """Whether a function, given this, would draw random numbers or update running statistics."""
    updates = given.get("use_input_stats") is True and given.get("running_mean") is not None
    return updates or any(given.get(name) for name in ("train", "training", "dropout_p"))


def _is_one_tensor(node: Mapping[str, Any]) -> bool:
    return len(node["outputs"]) == 1 and _only(node["outputs"][0])[0] == "as_tensor"


def _first_given(node: Mapping[str, Any]) -> str:
    """The name of the tensor that is a function's first argument; ``""`` where none is."""
    if not node["inputs"]:
        return ""
    kind, argument = _only(node["inputs"][0]["arg"])
    return str(argument["name"]) if kind == "as_tensor" else ""


def _calls(node: Mapping[str, Any]) -> list[_Call]:
    """The modules that a function was called within, outermost first, but for the network."""
    stack = node["metadata"].get("nn_module_stack", "")
    entries = [entry.split(",") for entry in stack.split(";") if "," in entry]
    return [_Call(e[0], e[1]) for e in entries if e[1] and not e[1].startswith(_NO_MODULE)]


def _checked(name: str) -> str:
    """The name of a tensor or module, if it is one: names become part of Python code in torch.fx.

    Raises:
        LcamError: It is not letters, digits, underscores and hyphens between dots.
    """
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name, re.ASCII):
        raise LcamError(f"it has a part named {name!r}", f"export it with strict=False, or {_OWN}")
    return name
