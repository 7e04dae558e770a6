"""Where the files of a Hugging Face classifier lie: in a folder, or in the hub's cache.

A folder from a stranger does not choose what else is read: every file must lie in it. Nothing in it
is run, and what is JSON is read as JSON alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcam_cli.errors import LcamError, one_line
from lcam_cli.networks.weights.file_kinds import check_is_file, real_path

PREFIX = "hf/"
CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
# As transformers looks for them; a table is of weights in parts.
_WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_OTHER_WEIGHTS = {
    "tf_model.h5": "TensorFlow",
    "flax_model.msgpack": "Flax",
    "model.onnx": "ONNX",
    "model.gguf": "GGUF",
}
_LARGEST_JSON = 2**24  # bytes: the names of ImageNet's 21,000 classes take two million
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
_GET_AGAIN = "download the whole folder again"


def is_huggingface(name: str) -> bool:
    """Whether a name is ``hf/…``, or a folder of a model as ``save_pretrained`` writes it."""
    try:
        folder = Path(name)
        return name.startswith(PREFIX) or any(
            (folder / file).is_file() for file in (CONFIG, _ADAPTER)
        )
    except OSError:  # a name longer than names of files may be
        return False


def is_moved_folder(name: str, weights: str) -> bool:
    """Whether weights lie in a folder of this name, wherever the program is now.

    Args:
        name: A path, as typed where the folder was found.
        weights: A file that was recorded as this name's weights.
    """
    beside, named = Path(weights).parent, Path(name).name
    # "." and ".." are said of any folder.
    return named in ("", "..", beside.name) and (beside / CONFIG).is_file()


@dataclass(frozen=True)
class Folder:
    """The files of one classifier.

    Attributes:
        path: Where they lie, or links to them.
        root: The folder that nothing may lead out of.
        repository: ``ORG/NAME`` of the hub; ``""`` for a folder of the user's.
        revision: Of the repository: the commit, once it is known.
    """

    path: Path
    root: Path
    repository: str = ""
    revision: str = "main"

    def find(self, file: str) -> Path | None:
        """A file by its name, got from the hub where need be; None where there is none.

        Raises:
            LcamError: It leads out of the folder, is no file, or cannot be got.
        """
        if self.repository:
            return _from_hub(self.repository, file, self.revision)
        path = self.path / file
        if not path.exists() and not path.is_symlink():
            return None
        if not real_path(path).is_relative_to(self.root):
            raise LcamError(
                f"{path} refused: it points outside {self.path}, to {real_path(path)}",
                "copy the file itself into the folder",
            )
        check_is_file(path)
        return path

    def read_json(self, file: str) -> dict[str, Any] | None:
        """The object in a JSON file; None where there is no such file.

        Raises:
            LcamError: It is too large, no JSON, nested too deeply, or no object.
        """
        path = self.find(file)
        return None if path is None else read_json(path)

    def find_weights(self) -> Path:
        """The file of the weights, or the table of those in parts, which all lie in the folder.

        Raises:
            LcamError: There is none; the message names what there is.
        """
        for file in _WEIGHTS:
            path = self.find(file)
            if path is None:
                continue
            if file.endswith(".index.json"):
                self._check_parts(path)
            return path
        for file, kind in _OTHER_WEIGHTS.items():
            if not self.repository and (self.path / file).is_file():
                raise LcamError(
                    f"{self.path} has weights only for {kind} ({file})",
                    "save them for PyTorch: model.save_pretrained(FOLDER), as safetensors",
                )
        raise LcamError(
            f"{self.repository or self.path} has no weights ({_WEIGHTS[0]} or {_WEIGHTS[2]})",
            "save them with model.save_pretrained(FOLDER), or pass --weights FILE or --weights "
            "none",
        )

    def _check_parts(self, table: Path) -> None:
        """Have all parts at hand that a table names, and none of them elsewhere."""
        parts = read_json(table).get("weight_map")
        if not isinstance(parts, dict) or not all(isinstance(p, str) for p in parts.values()):
            raise LcamError(f"{table} has no weight_map", _GET_AGAIN)
        for part in sorted(set(parts.values())):
            if not re.fullmatch(r"[\w.-]+\.(safetensors|bin)", part):
                raise LcamError(
                    f"{table} refused: it names {part!r}, which is not a weights file in its "
                    "folder",
                    _GET_AGAIN,
                )
            if self.find(part) is None:
                raise LcamError(f"{table} names {part}, which is missing", _GET_AGAIN)


def find_folder(name: str, weights: str) -> Folder:
    """Find the folder that a name means.

    Args:
        name: ``hf/ORG/NAME``, ``hf/DIR`` or ``DIR``.
        weights: As typed. A file that was recorded as this name's weights says where they lie.

    Raises:
        LcamError: There is no such folder or repository, or it cannot be got.
    """
    plain = name.removeprefix(PREFIX)
    path = Path(plain)
    beside = Path(weights).parent
    cached = f"models--{plain.replace('/', '--')}" in beside.parts and (beside / CONFIG).is_file()
    if is_moved_folder(plain, weights) or (cached and not path.is_dir()):
        path = beside  # from another working folder, or without a network
    if path.is_dir():
        folder = Folder(path, _root_of(path.resolve()))
        _check_no_adapter(path)
        return folder
    if not _REPOSITORY.fullmatch(plain) or ".." in plain or path.exists():
        raise LcamError(
            f"{name}: there is no folder {plain}",
            "pass the path of a folder with a config.json, or hf/ORG/NAME for a model on the hub",
        )
    config = _from_hub(plain, CONFIG, "main")
    if config is None:
        raise LcamError(
            f"{name} has no {CONFIG} on the hub", "use a transformers classifier from the hub"
        )
    return Folder(config.parent, config.parent, plain, config.parent.name)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        LcamError: It is too large, no JSON, nested too deeply, or no object.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise LcamError(
                f"{path} has {path.stat().st_size:,} bytes, more than {_LARGEST_JSON:,}",
                "pass the folder that save_pretrained wrote",
            )
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LcamError(f"cannot read {path}: {one_line(error)}", _GET_AGAIN) from None
    if not isinstance(content, dict):
        raise LcamError(f"{path} holds a {type(content).__name__}, not an object", _GET_AGAIN)
    return content


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep back what transformers and the hub's client print: progress, reports, advice."""
    from transformers.utils import logging as own  # noqa: PLC0415 (an extra)

    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = own.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        own.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            own.enable_progress_bar()


def _root_of(folder: Path) -> Path:
    """What a folder's files may lie in: itself; of a snapshot in the hub's cache, its repository.

    There the files are links to ``blobs/``, which lies beside ``snapshots/``.
    """
    repository = folder.parent.parent
    cached = folder.parent.name == "snapshots" and repository.name.startswith("models--")
    return repository if cached and (repository / "blobs").is_dir() else folder


def _check_no_adapter(folder: Path) -> None:
    if (folder / _ADAPTER).is_file() and not (folder / CONFIG).is_file():
        raise LcamError(
            f"{folder} is a PEFT adapter, not a whole classifier",
            "merge it and save the result: model.merge_and_unload().save_pretrained(FOLDER)",
        )


def _from_hub(repository: str, file: str, revision: str) -> Path | None:
    """A file of the hub's: the one in the cache, else a download; None where there is none.

    Raises:
        LcamError: There is no such repository, or it cannot be reached.
    """
    import huggingface_hub as hub  # noqa: PLC0415 (an extra)
    from huggingface_hub.errors import (  # noqa: PLC0415
        EntryNotFoundError,
        LocalEntryNotFoundError,
    )

    cached = hub.try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    if cached is not None:  # known not to be there
        return None
    try:
        with quietly():
            return Path(hub.hf_hub_download(repository, file, revision=revision))
    except EntryNotFoundError as error:
        if not isinstance(error, LocalEntryNotFoundError):
            return None
        failure: Exception = error
    except Exception as error:  # the client, the network and the cache raise their own
        failure = error
    raise LcamError(
        f"cannot download {file} of {repository} from the hub: {one_line(failure)}",
        "check the name and the internet connection (for private models, run hf auth login), or "
        "pass a local folder",
    ) from None
