"""A Hugging Face classifier with its weights, or with random ones.

Files are read as everywhere else in lcam (``weights.checkpoint``), so nothing in them is run.
transformers is given the state dict alone: it knows under which names older versions of it saved
the entries. Nothing that is missing is left random.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lcam_cli.errors import LcamError, one_line
from lcam_cli.networks.huggingface_config import Description
from lcam_cli.networks.huggingface_folder import quietly
from lcam_cli.networks.network import seeded
from lcam_cli.networks.weights.file import WeightsFile
from lcam_cli.networks.weights.renaming import LEFTOVER
from lcam_cli.networks.weights.tensors import tensors_of

log = logging.getLogger("lcam")

_MOST_MODULES = 10_000  # the largest classifiers have some thousands
_HEAD = "pass the weights of a fine-tuned classifier, with its own config.json"


def random_module(name: str, described: Description, seed: int) -> nn.Module:
    """The classifier with random weights.

    Raises:
        LcamError: transformers cannot build it, or it does not fit into memory.
    """
    needed = _bytes_of(shapes_only(name, described).parameters())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise LcamError(
            f"the config.json of {name} describes a network of {_in_words(needed)}, but this "
            f"machine has {_in_words(memory)}",
            "use a smaller network",
        )
    with quietly():
        module: nn.Module = seeded(lambda: described.model_class(described.config), seed)
    return module


def shapes_only(name: str, described: Description) -> nn.Module:
    """The classifier without its values, which takes no memory, whatever its sizes.

    Raises:
        LcamError: transformers cannot build it, or it has more parts than any network.
    """
    try:
        with quietly(), _at_most(_MOST_MODULES), torch.device("meta"), _RatesOnCPU():
            module: nn.Module = described.model_class(described.config)
    except LcamError:
        raise
    except Exception as error:  # code that meets numbers that do not go together
        # Before transformers 5 a few constructors could not do without values.
        newer = "pip install -U transformers, or " if isinstance(error, NotImplementedError) else ""
        raise LcamError(
            f"transformers cannot build the {described.model_class.__name__} that the config.json "
            f"of {name} describes: {type(error).__name__}: {one_line(error)}",
            f"{newer}download the folder again, or write it again with save_pretrained",
        ) from None
    return module


def load_module(name: str, described: Description, path: str) -> tuple[nn.Module, WeightsFile]:
    """The classifier with a file's weights.

    Args:
        name: What the user calls it.
        described: What its ``config.json`` says.
        path: The file, or ``FILE#KEY`` for one of several state dicts in it.

    Raises:
        LcamError: The file cannot be read, or its weights are not those of this classifier.
    """
    shapes = shapes_only(name, described)
    file = WeightsFile(path)
    left_out: list[str] = []
    try:
        fit = file.fit(shapes, name)
        state, left_out = tensors_of(fit.state), fit.left_out
    except LcamError:  # transformers may know older names
        state = tensors_of(file.named_for(shapes))
    needed, given = _bytes_of(shapes.parameters()), _bytes_of(state.values())
    elements, there = _count(shapes.parameters()), _count(state.values())
    if elements > 2 * there + 10**7:
        raise LcamError(
            f"the config.json of {name} describes a network of {_in_words(needed)}, but "
            f"{file.path} holds {_in_words(given)}",
            "download the whole folder again: these do not belong together",
        )
    try:
        with quietly():
            module, report = described.model_class.from_pretrained(
                None,
                config=described.config,
                state_dict=state,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # said below, in words
                torch_dtype=torch.float32,
            )
    except Exception as error:  # transformers' own, of all kinds
        raise LcamError(
            f"{file.path} does not fit {name}: {one_line(error)}",
            "pass the weights that belong to its config.json",
        ) from None
    _check_complete(name, described, file.path, shapes, report)
    left_out += sorted(key for key in report["unexpected_keys"] if not LEFTOVER.search(key))
    if left_out:
        log.warning(
            "ignored in %s, because %s has no such weights: %s", file.path, name, _few(left_out)
        )
    loaded: nn.Module = module
    return loaded, file


def _check_complete(
    name: str, described: Description, path: Path, shapes: nn.Module, report: Mapping[str, Any]
) -> None:
    """Check that every weight came from the file, and that the file is of no larger network.

    Raises:
        LcamError: Weights are missing, of another shape, or left over.
    """
    base = f"{getattr(described.model_class, 'base_model_prefix', '')}."
    missing = sorted(key for key in report["missing_keys"] if not LEFTOVER.search(key))
    others = sorted((str(k), tuple(a), tuple(b)) for k, a, b in report["mismatched_keys"])
    head = {key for key in shapes.state_dict() if not key.startswith(base)}
    if missing and not others and head.issuperset(missing):
        raise LcamError(
            f"{path} has no classifier: it lacks {_few(missing)} of {name}; it holds only the base "
            "model",
            _HEAD,
        )
    if others and not any(key.startswith(base) for key, *_ in others):
        key, there, here = others[-1]
        raise LcamError(
            f"only the head of {path} differs: {key} is {there} there, but {here} by the "
            f"config.json of {name}",
            f"pass the config.json of these weights, with {there[0]} classes in id2label",
        )
    if others:
        key, there, here = others[0]
        raise LcamError(
            f"{path} does not fit {name}: {key} is {there} there, but {here} by its config.json",
            "pass the weights that belong to the config.json",
        )
    if missing:
        raise LcamError(
            f"{path} does not fit {name}: it lacks {_few(missing)}",
            "pass the weights that belong to its config.json",
        )
    # A deeper network has all the weights of a shallower one.
    own = {_numberless(key) for key in shapes.state_dict()}
    deeper = sorted(key for key in report["unexpected_keys"] if _numberless(key) in own)
    if deeper:
        raise LcamError(
            f"{path} is for a larger network than the config.json of {name} describes: "
            f"{_few(deeper)}",
            "pass the weights that belong to the config.json",
        )


def flip_input(name: str, module: nn.Module, channels: int) -> None:
    """Have a network that was trained with BGR take RGB, in place: its first layer's weights turn.

    Raises:
        LcamError: It is not one convolution that takes the image.
    """
    first = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.in_channels == channels]
    if len(first) != 1 or first[0].groups != 1:
        raise LcamError(
            f"{name} expects blue, green, red, but lcam cannot tell which of its layers reads the "
            "image",
            "pass a function that returns a module which reverses the channels itself",
        )
    with torch.no_grad():
        first[0].weight.copy_(first[0].weight.flip(1))


class _RatesOnCPU(TorchFunctionMode):
    """Has constructors compute rates, a number a layer, where numbers have values."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function."""
        kwargs = kwargs or {}
        return func(*args, **({**kwargs, "device": "cpu"} if func is torch.linspace else kwargs))


@contextmanager
def _at_most(modules: int) -> Iterator[None]:
    """Stop building a network of more modules: one of 10⁹ layers would take all memory."""
    thread, count = threading.get_ident(), 0

    def note(module: nn.Module, name: str, part: nn.Module | None) -> None:
        nonlocal count
        if threading.get_ident() == thread:
            count += 1
            if count > modules:
                raise LcamError(
                    f"the config.json describes a network of more than {modules:,} parts",
                    "download the folder again",
                )

    hook = nn.modules.module.register_module_module_registration_hook(note)
    try:
        yield
    finally:
        hook.remove()


def _bytes_of(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _count(tensors: Any) -> int:
    return sum(t.numel() for t in tensors if isinstance(t, Tensor))


def _in_words(count: float) -> str:
    """``4.1 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if names[2:] else "")


def _numberless(name: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".#", name)
