"""What a command's parameters are, told by its signature: for ``--help`` and the docs.

Not by typer: the wording of its own help differs between versions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo


@dataclass(frozen=True)
class Described:
    """A parameter in words.

    Attributes:
        key: What it is called in ``lcam.toml``.
        names: Its options as they are typed; none for an argument.
        is_pair: Whether these turn something on and off.
        value: What is typed after them, or in an argument's place; may be empty.
        takes_many: Whether an argument takes any number of words.
        default: What it is unless given; may be empty.
        about: What it does.
    """

    key: str
    names: tuple[str, ...]
    is_pair: bool
    value: str
    takes_many: bool
    default: str
    about: str


def described(function: Callable[..., Any]) -> Iterator[Described]:
    """Yield a command's parameters, in the order of its signature."""
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if get_origin(parameter.annotation) is not Annotated:
            continue  # the context
        kind, info = get_args(parameter.annotation)[:2]
        if not info.hidden:
            yield _described(name, kind, info, parameter.default)


def _described(name: str, kind: Any, info: OptionInfo | ArgumentInfo, default: object) -> Described:
    value = info.metavar or "|".join(choices(kind))
    about, words = info.help or "", _default(default, info)
    if isinstance(info, ArgumentInfo):
        value = (value or name.upper()).strip("[.]")
        return Described(name.rstrip("_"), (), False, value, _takes_many(kind), words, about)
    # In an annotation, typer keeps the first name where a default would stand.
    told = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
    names = [part for decl in told for part in decl.split("/")]
    names = names or [f"--{name.rstrip('_').replace('_', '-')}"]
    key = next(one for one in names if one.startswith("--")).lstrip("-")
    is_pair = any("/" in decl for decl in told)
    return Described(key, tuple(names), is_pair, value, False, words, about)


def choices(kind: Any) -> list[str]:
    """Return the words that a parameter of a type takes, where it takes only some."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(word.value) for word in kind]
    return [word for part in get_args(kind) if part is not NoneType for word in choices(part)]


def _takes_many(kind: Any) -> bool:
    return list in (get_origin(kind), *map(get_origin, get_args(kind)))


def _default(value: Any, info: OptionInfo | ArgumentInfo) -> str:
    if isinstance(info.show_default, str):
        return info.show_default
    if value is inspect.Parameter.empty:
        return "required"
    if not info.show_default or value is None or isinstance(value, bool) or value == ():
        return ""
    values = value if isinstance(value, list | tuple) else [value]
    return ", ".join(str(getattr(one, "value", one)) for one in values)
