"""``file.py:function``, ``package.module:function``: the user's own code makes the classifier."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lcam_cli.errors import LcamError, did_you_mean, one_line
from lcam_cli.networks.network import Network, check_loaded, seeded
from lcam_cli.networks.users_code import (
    needed_arguments,
    note_users_code,
    raised,
    users_error,
)
from lcam_cli.networks.weights.file import load_weights
from lcam_cli.networks.weights.fingerprint import sha256_of_state
from lcam_cli.networks.wrappers import module_in, unwrap


def function_network(name: str, weights: str, seed: int) -> Network:
    """Have the user's function make a classifier.

    Args:
        name: ``file.py:function`` or ``package.module:function``.
        weights: ``"DEFAULT"`` for those that it comes with, ``"none"`` (random, from ``seed``), or
            a file.
        seed: For ``"none"``, and whatever else it draws.

    Raises:
        LcamError: There is no such function, it raises something or returns no network, or the
            weights do not fit.
    """
    with _globals_kept():
        made = _made_by(_import_function(name), name, seed)
    module = unwrap(made)
    if weights == "none":
        return Network(module, name, f"none:seed={seed}")
    if weights == "DEFAULT":  # the function has loaded what it wants; its content is the identity
        _check_made(module, name)
        return Network(module, name, sha256_of_state(module))
    file = load_weights(module, weights, name)
    return Network(module, name, file.identity, file.found_at)


@contextlib.contextmanager
def _globals_kept() -> Iterator[None]:
    """Have what the user's code sets for all of torch, or of the process, end with it."""
    folder, grad, dtype = Path.cwd(), torch.is_grad_enabled(), torch.get_default_dtype()
    device = torch.get_default_device()
    try:
        yield
    finally:
        os.chdir(folder)
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)


def _check_made(module: nn.Module, name: str) -> None:
    """Check that a network brings values.

    Raises:
        LcamError: It has layers without, on the meta device or lazy.
    """
    check_loaded(module, name)
    lazy = [
        n
        for n, parameter in module.named_parameters()
        if isinstance(parameter, nn.UninitializedParameter)
    ]
    if lazy:
        raise LcamError(
            f"{name}: its lazy layers have no weights yet ({lazy[0]})",
            "run it once in the function on torch.zeros(1, 3, H, W), or pass --weights none",
        )


def _made_by(function: Any, name: str, seed: int) -> nn.Module:
    """What the function returns, if that is a network."""
    if isinstance(function, nn.Module):  # the network itself stands under that name
        return function
    _check_no_arguments(function, name)
    try:
        made = seeded(function, seed)
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        raise _error_of_function(error, name) from error
    made = module_in(made)
    if isinstance(made, nn.Module):
        return made
    if inspect.iscoroutine(made):
        made.close()
    raise LcamError(f"{name} returned {_described(made)}, not a torch.nn.Module", _hint(made))


def _check_no_arguments(function: Any, name: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one written in C
        return
    try:
        signature.bind()
    except TypeError:
        own = name.rpartition(":")[2]
        raise LcamError(
            f"{name} needs arguments ({', '.join(needed_arguments(signature))}), but lcam passes "
            "none",
            f"pass a function that fills them in: def build(): return {own}(…)",
        ) from None


def _error_of_function(error: BaseException, name: str) -> LcamError:
    users = users_error(error, name, resumable=False)
    if users is None:  # raised by what is no Python of users, such as a class of torch
        return LcamError(f"{name} {raised(error)}", "fix it there")
    if re.search("cuda|nvidia", users.what, re.IGNORECASE) and not torch.cuda.is_available():
        return LcamError(
            users.what,
            "build it on the CPU (no .cuda(), map_location='cpu'): --device sets where it runs",
        )
    return users


def _described(made: Any) -> str:
    kind = type(made).__name__
    if made is None:
        return "None"
    if isinstance(made, type):
        return f"the class {made.__name__}"
    if isinstance(made, tuple | list):
        parts = ", ".join(f"[{i}] {type(part).__name__}" for i, part in enumerate(made))
        return f"a {kind} of {len(made)}: {parts}"
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"


def _hint(made: Any) -> str:
    if isinstance(made, type):
        return f"return an instance: {made.__name__}()"
    known = (
        (made is None, "end the function with `return` and the classifier"),
        (isinstance(made, tuple | list), "return only the classifier"),
        (inspect.iscoroutine(made), "make it a plain function, without async"),
        (
            isinstance(made, Mapping),
            "a state dict holds only weights: load it into the classifier and return the "
            "classifier",
        ),
        (
            type(made).__name__ == "ExportedProgram",
            "return torch.export.unflatten(program), or pass its file: --backbone FILE.pt2",
        ),
    )
    other = "write a function without arguments that returns the classifier"
    return next((hint for is_that, hint in known if is_that), other)


# --- importing ------------------------------------------------------------------------------------


def _import_function(name: str) -> Callable[[], Any]:
    source, _, function = name.rpartition(":")
    try:
        if source.endswith(".py"):
            module = _import_file(Path(source), name)
        else:
            module = _import_package(source, name)
    except LcamError:
        raise
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        users = users_error(error, name)
        place = users.what[users.what.rindex(" (") :] if users else ""
        hint = "fix it there (--debug shows the traceback)"
        if users is None or isinstance(error, ModuleNotFoundError):
            hint = (
                "pass --backbone file.py:function or package.module:function, and install "
                "what it imports"
            )
        raise LcamError(
            f"importing {source!r} failed: {type(error).__name__}: {one_line(error)}{place}", hint
        ) from error
    made: Any = getattr(module, function, None)
    if not callable(made):
        raise LcamError(
            f"{source} has no function {function!r}",
            did_you_mean(function, [n for n in dir(module) if not n.startswith("_")])
            or "pass a function that returns the classifier",
        )
    found: Callable[[], Any] = made
    return found


def _import_package(source: str, name: str) -> Any:
    if str(Path.cwd()) not in sys.path:  # as `python -m` would
        sys.path.insert(0, str(Path.cwd()))
    top = importlib.util.find_spec(source.partition(".")[0])
    if top is not None and top.origin:
        origin = Path(top.origin)
        note_users_code(name, origin.parent if top.submodule_search_locations else origin)
    return importlib.import_module(source)


def _import_file(path: Path, name: str) -> Any:
    if not path.is_file():
        raise LcamError(f"no such file: {path}", "pass --backbone path/to/file.py:function")
    note_users_code(name, path.parent)
    spec = importlib.util.spec_from_file_location(f"_lcam_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles in the file look themselves up
    if str(path.parent.resolve()) not in sys.path:  # as `python file.py` would, for files beside it
        sys.path.append(str(path.parent.resolve()))
    spec.loader.exec_module(module)
    return module
