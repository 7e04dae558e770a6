"""Reading a pickle as data: what it would make is described; nothing is imported, called or run.

A pickle is a program for a small stack machine. Python's machine imports what the program names and
calls it. The one here has the same instructions, of every protocol, but to it a name is a name
(:class:`Name`) and a call is a description of one (:class:`OpaqueObject`). Only plain containers
are made, and tensors, by the reader of the file that the pickle lies in.
"""

from __future__ import annotations

import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch

# What no weights file has a reason to name, called or not.
_NEVER = re.compile(
    r"asyncio|bdb|cProfile|code|codeop|concurrent|_?ctypes|ensurepip|ftplib|gc|http|importlib"
    r"|inspect|_?io|marshal|multiprocessing|nt|_?operator|os|pdb|_?pickle|pip|posix|profile|pty"
    r"|runpy|shutil|signal|site|smtplib|socket|subprocess|sys|tempfile|threading|_thread|timeit"
    r"|trace|urllib|venv|webbrowser"
)
# Python's own types, the last three of Python 2. Its functions, eval and open, are not here.
_BUILTIN_TYPES = re.compile(
    r"bool|bytearray|bytes|complex|dict|float|frozenset|getattr|int|list|memoryview|object|range"
    r"|set|slice|str|tuple|type|long|unicode|xrange"
)
# Functions, and types whose names begin as functions' do, that only make a piece of data.
_MAKES_DATA = re.compile(
    r"(numpy(\._?core|\.random|\.ma)\.[\w.]+"
    r"|numpy\.(dtype|ndarray|bool_?|void|str_|bytes_|object_|datetime64|timedelta64"
    r"|longdouble|clongdouble|u?(int|long|short|byte)\w*|float\d+|complex\d+)"
    r"|datetime\.(datetime|date|time|timedelta|timezone)|zoneinfo\.ZoneInfo\._unpickle"
    r"|copyreg\.\w+|pandas\._libs\.[\w.]+|functools\.partial|re\._compile|types\.SimpleNamespace"
    r"|torch\._utils\._rebuild\w+|torch\._tensor\._rebuild\w+|torch\.serialization\._get_layout"
    r"|torch\.nested\._internal\.nested_tensor\._rebuild_njt"
    r"|torch\.(device|memory_format|layout|qscheme|finfo|iinfo))"
)
# Modules as protocols before 3 call them.
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "commands": "subprocess"}
_MARK = object()


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names: ``"module.name"``."""

    full: str


class OpaqueObject:
    """What a call in a pickle would have made, had it been run.

    Attributes:
        of: The class or function.
        entries: What the pickle then puts in by key, as into a dictionary.
        state: What it then sets, mostly the attributes by name.
    """

    def __init__(self, of: str) -> None:
        self.of = of
        self.entries: dict[Any, Any] = {}
        self.state: object = None

    def __repr__(self) -> str:
        return f"<{self.of}, not made>"

    @property
    def is_module(self) -> bool:
        """Whether this would be a whole network, an ``nn.Module``."""
        return isinstance(self.state, Mapping) and {"_modules", "_parameters"} <= set(self.state)


class PickleMachine:
    """Reads one pickle.

    Args:
        persistent: What stands for a persistent id, such as a tensor's storage.
        make: Makes what ``(function, arguments)`` would, or gives None for what it does not know.

    Attributes:
        would_run: The functions, by name, that unpickling would have run.
    """

    def __init__(
        self,
        persistent: Callable[[object], object],
        make: Callable[[str, tuple[Any, ...]], object | None],
    ) -> None:
        self.would_run: set[str] = set()
        self._persistent = persistent
        self._make = make
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self, file: IO[bytes]) -> Any:
        """Read up to the end of the pickle that begins here, and no further.

        Raises:
            Exception: The pickle is damaged, or uses what only cooperating processes can.
        """
        stack, memo = self._stack, self._memo
        for opcode, literal, _ in pickletools.genops(file):
            argument: Any = literal
            name = opcode.name
            if name in ("PROTO", "FRAME"):
                continue
            if name == "STOP":
                return stack.pop()
            if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif _LITERALS.fullmatch(name):
                stack.append(argument)
            elif name in _EMPTY:
                stack.append(_EMPTY[name]())
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            else:
                self._step(name, argument)
        raise ValueError("the pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        if not (self._collect(name) or self._build(name, argument) or self._move(name)):
            raise ValueError(f"{name} in a file")

    def _collect(self, name: str) -> bool:
        """Make and fill containers; False where the instruction is another."""
        stack = self._stack
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name == "TUPLE":
            stack.append(tuple(self._marked()))
        elif name == "LIST":
            stack.append(self._marked())
        elif name == "FROZENSET":
            stack.append(frozenset(map(_key, self._marked())))
        elif name == "DICT":
            items = self._marked()
            stack.append(dict(_pairs(items)))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if name == "APPEND" else self._marked()
            _add(stack[-1], items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._marked()
            into = stack[-1].entries if isinstance(stack[-1], OpaqueObject) else stack[-1]
            if not isinstance(into, dict):
                raise ValueError(f"{name} to no dictionary")
            into.update(_pairs(items))
        else:
            return False
        return True

    def _build(self, name: str, argument: Any) -> bool:
        """Names, calls and objects; False where the instruction is another."""
        stack = self._stack
        if name in ("GLOBAL", "STACK_GLOBAL"):
            parts = argument.split(" ", 1) if argument else [stack.pop(-2), stack.pop()]
            stack.append(self._named(*parts))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._called(function, arguments))
        elif name in ("NEWOBJ", "NEWOBJ_EX"):
            del stack[len(stack) - (1 if name == "NEWOBJ" else 2) :]  # the arguments
            stack.append(_instance(stack.pop()))
        elif name == "INST":
            self._marked()
            stack.append(_instance(self._named(*argument.split(" ", 1))))
        elif name == "OBJ":
            stack.append(_instance(self._marked()[0]))
        elif name == "BUILD":
            _set_state(stack[-2], stack.pop())
        elif name in ("PERSID", "BINPERSID"):
            stack.append(self._persistent(argument if name == "PERSID" else stack.pop()))
        else:
            return False
        return True

    def _move(self, name: str) -> bool:
        """Marks and copies; False where the instruction is another."""
        if name == "MARK":
            self._stack.append(_MARK)
        elif name == "POP":
            self._stack.pop()
        elif name == "POP_MARK":
            self._marked()
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        else:
            return False
        return True

    def _marked(self) -> list[Any]:
        """Take what was pushed since the last mark, and the mark."""
        stack = self._stack
        start = len(stack) - 1
        while stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise ValueError("no mark")
        items = stack[start + 1 :]
        del stack[start:]
        return items

    def _named(self, module: str, name: str) -> object:
        module = _OLD_MODULES.get(module, module)
        root = module.partition(".")[0]
        if _NEVER.fullmatch(root) or (root == "builtins" and _is_function(f"builtins.{name}")):
            self.would_run.add(f"{module}.{name}")
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return Name(f"{module}.{name}")

    def _called(self, function: object, arguments: object) -> object:
        if not isinstance(function, Name):
            # The result of a call, such as functools.partial(f): calling it would run f.
            kind = type(function).__name__
            self.would_run.add(function.of if isinstance(function, OpaqueObject) else f"a {kind}")
            return OpaqueObject("?")
        if not isinstance(arguments, tuple):
            raise ValueError(f"arguments that are a {type(arguments).__name__}")
        name = function.full
        if name == "builtins.getattr" and len(arguments) == 2:
            # How protocols before 4 name a class inside a class, and Python 3.11 an enum's member.
            owner, attribute = arguments
            if isinstance(owner, Name) and isinstance(attribute, str):
                return Name(f"{owner.full}.{attribute}")
        plain = _plain(name, arguments)
        if plain is not None:
            return plain
        made = self._make(name, arguments)
        if made is not None:
            return made
        if _is_function(name):
            self.would_run.add(name)
        of = arguments[0] if name == "copyreg._reconstructor" and arguments else function
        return _instance(of if isinstance(of, Name) else function)


def _is_function(name: str) -> bool:
    """Whether calling what has this name runs more than a class that only holds data."""
    module, _, last = name.rpartition(".")
    if module == "builtins":
        return not (_BUILTIN_TYPES.fullmatch(last) or last[:1].isupper())
    return not last.lstrip("_")[:1].isupper() and not _MAKES_DATA.fullmatch(name)


def _instance(of: object) -> object:
    """An object of this class, nothing in it yet."""
    if isinstance(of, Name):
        return _plain(of.full, ()) if of.full in _CONTAINERS else OpaqueObject(of.full)
    return OpaqueObject(of.of if isinstance(of, OpaqueObject) else "?")


def _key(value: Any) -> Any:
    """The value as a key; nested tuples, whose hash can take for ever, are not looked into."""
    if isinstance(value, tuple) and any(isinstance(v, tuple | frozenset) for v in value):
        return OpaqueObject("builtins.tuple")
    return value


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(map(_key, items[::2]), items[1::2], strict=True)


def _add(into: Any, items: list[Any]) -> None:
    if isinstance(into, list):
        into.extend(items)
    elif isinstance(into, set):
        into.update(map(_key, items))
    elif not isinstance(into, OpaqueObject):
        raise ValueError(f"items for a {type(into).__name__}")


def _set_state(made: object, state: object) -> None:
    if isinstance(made, OpaqueObject):
        made.state = state
    elif isinstance(made, OrderedDict) and isinstance(state, Mapping) and "_metadata" in state:
        made._metadata = state["_metadata"]  # type: ignore[attr-defined]  # versions of modules


_CONTAINERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": dict,
    "collections.deque": lambda items=(), *_: list(items),
    "collections.defaultdict": lambda *_: {},
    "builtins.list": list,
    "builtins.dict": dict,
    "builtins.set": lambda items=(): set(map(_key, items)),
    "builtins.frozenset": lambda items=(): frozenset(map(_key, items)),
    "builtins.tuple": tuple,
}


def _plain(name: str, arguments: tuple[Any, ...]) -> object | None:
    """A container, bytes or a number; None for anything else."""
    if name in _CONTAINERS:
        return _CONTAINERS[name](*arguments)  # type: ignore[no-any-return]
    if name in ("_codecs.encode", "builtins.bytearray"):
        text = arguments[0] if arguments else b""
        content = text.encode("latin-1") if isinstance(text, str) else bytes(list(text))
        return bytearray(content) if name == "builtins.bytearray" else content
    if name == "builtins.complex":
        return complex(*(float(number) for number in arguments))
    if name == "torch.Size" and len(arguments) == 1:
        return torch.Size(int(n) for n in arguments[0])
    return None


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = re.compile(
    r"(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|BYTEARRAY8"
    r"|(SHORT_)?BIN(STRING|BYTES|UNICODE)|BIN(BYTES|UNICODE)8|STRING|UNICODE"
)
