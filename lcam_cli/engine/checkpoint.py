"""Reading tensors out of files from strangers, without running anything in them.

``.safetensors`` holds tensors and text only. Pickles (``.pt``, ``.pth``, ``.ckpt``) are read by
PyTorch's restricted unpickler (``weights_only=True``), which builds tensors and plain containers
and refuses everything else. What a file says of its sizes is held against the file itself, so that
a small one cannot ask for more memory than it fills.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from lcam_cli.errors import LcamError

# Where training frameworks keep the state dict inside their checkpoint.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")
# What wrappers (DataParallel, torch.compile, Lightning) put before every name.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
# Containers in which frameworks keep hyper-parameters. They are read as inert stand-ins: a
# checkpoint that carries them opens, and none of their code runs.
_HYPER_PARAMETER_TYPES = {
    "argparse.Namespace",
    "types.SimpleNamespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "yacs.config.CfgNode",
}


class _Inert(dict):  # type: ignore[type-arg]
    """Stands in for a hyper-parameter object: takes any arguments and does nothing with them."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, _state: object) -> None:
        """Drop whatever state the pickle carries."""


def sha256_of_file(path: Path) -> str:
    """Return ``"sha256:…"`` of the file's bytes.

    Raises:
        LcamError: The file cannot be read.
    """
    _check_is_file(path)
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LcamError(
            f"cannot read {path}: {error.strerror or error}", "give a file that exists"
        ) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as a dictionary, executing nothing.

    Args:
        path: A ``.safetensors`` file, or anything ``torch.save`` wrote.

    Returns:
        What the file holds at its top level; tensors are on the CPU.

    Raises:
        LcamError: The file is missing, damaged, or asks for more than tensors and plain data.
    """
    _check_is_file(path)
    if path.suffix == ".safetensors":
        return dict(_read_safetensors(path))
    content = _read_pickle(path)
    if not isinstance(content, Mapping):
        raise LcamError(
            f"{path} holds a {type(content).__name__}, not a state dict",
            "save model.state_dict() and give that file",
        )
    return dict(content)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a network's weights: names to tensors, without the wrappers that training adds.

    Nested state dicts (``{"state_dict": …}``) are found, and prefixes that every name carries
    (``module.``, ``_orig_mod.``, ``model.``) are taken off.

    Raises:
        LcamError: As :func:`read_checkpoint`, or when the file holds no tensors.
    """
    content = read_checkpoint(path)
    state = tensors_of(content)
    for key in _STATE_DICT_KEYS:
        if isinstance(content.get(key), Mapping):
            state = tensors_of(content[key])
            break
    if not state:
        raise LcamError(f"{path} holds no tensors", "save model.state_dict() and give that file")
    return _without_prefixes(state)


def tensors_of(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the entries of ``content`` that are plain tensors under a text name."""
    return {k: v for k, v in content.items() if isinstance(k, str) and _is_plain(v)}


def _is_plain(value: object) -> bool:
    """Whether this is a dense tensor of numbers that are all there.

    Sparse, meta and expanded tensors can claim any size in a file of a few bytes.
    """
    if not isinstance(value, torch.Tensor) or value.is_nested or value.is_quantized:
        return False
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex():
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _check_is_file(path: Path) -> None:
    """A folder cannot be read; a device or a pipe might never end."""
    if not path.is_file():
        raise LcamError(
            f"no such file: {path}", "give the path of a .pt, .pth or .safetensors file"
        )


def _without_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _WRAPPER_PREFIXES:
            if all(name.startswith(prefix) for name in state):
                state = {name[len(prefix) :]: tensor for name, tensor in state.items()}
                stripped = True
    return state


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise LcamError(
            f"cannot read {path}: {error}", "the file is damaged; get it again"
        ) from None


def check_archive(path: Path) -> None:
    """Refuse a zip that holds more than its own size; ``torch.save`` does not compress."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # not a zip, or a damaged one, which PyTorch will say
        return
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise LcamError(
            f"{path} refused: it claims to hold more than its own size",
            "save the weights with torch.save or as .safetensors",
        )


def _read_pickle(path: Path) -> object:
    check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        wanted = _globals_asked_for(path, error)
        if not wanted:
            raise _unreadable(
                path, error, "it must be a file written by torch.save or safetensors"
            ) from None
    refused = sorted(wanted - _HYPER_PARAMETER_TYPES)
    if refused:
        raise LcamError(
            f"{path} refused: unpickling it would run {', '.join(refused[:3])}",
            "save only the state dict (torch.save(model.state_dict(), …)) or use .safetensors",
        )
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in wanted]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, error, "save only the state dict and give that file") from None


def _globals_asked_for(path: Path, error: Exception) -> set[str]:
    """What the pickle would import and PyTorch does not allow; empty if it is just damaged."""
    try:
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not a zip, or damaged
        # The old format: the refusal itself names the global.
        return set(re.findall(r"GLOBAL ([\w.]+)", str(error)))


def _unreadable(path: Path, error: Exception, hint: str) -> LcamError:
    """Tell why PyTorch could not read a file, without its advice to read it unsafely."""
    if re.search(r"weights[_ ]only", str(error), re.IGNORECASE):
        return LcamError(
            f"cannot read {path}: it is no weights file, or a damaged one",
            "give a state dict written by torch.save, or a .safetensors file",
        )
    return LcamError(f"cannot read {path}: {_first_line(error)}", hint)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
