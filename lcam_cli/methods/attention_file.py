"""Attention files: what ``lcam train`` writes, and the checkpoints of the authors' projects.

Ours are safetensors files: the tensors of what was learned (for L-CAM ``weight`` (R, K) and
``bias`` (R,)), and everything needed to use them (backbone, weights, layer, classes, preprocessing,
training settings) as text metadata. The paper's L-CAM has the format ``lcam-attention/1``; other
modes have ``lcam-attention/2`` and name their ``mode``; what has a kernel has ``lcam-attention/3``
and names its mode too. So a version that would read a file wrong refuses it. Where the
classifier's head was trained the file is its weights too: the backbone it names is the frozen one,
and what explains with it is known by the file's own SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from lcam_cli.engine.activation import check_activation
from lcam_cli.engine.backbone import Backbone
from lcam_cli.engine.identity import Identity
from lcam_cli.engine.probabilities import check_kind
from lcam_cli.errors import LcamError
from lcam_cli.images.preprocess import Preprocess
from lcam_cli.maps.atomic import write_atomically
from lcam_cli.methods.attention import Attention
from lcam_cli.methods.learned import LCAM_MODES, OF_TENSORS, Learned
from lcam_cli.methods.tame import Tame, check_layers, layers_of
from lcam_cli.methods.tame_file import Origin, check_origin, read_tame
from lcam_cli.methods.trained_head import HEAD_MODES, TrainedHead
from lcam_cli.networks.weights.checkpoint import read_checkpoint, sha256_of_file
from lcam_cli.networks.weights.tensors import tensors_of
from lcam_cli.version import __version__

FILE_NAME = "attention.safetensors"
_FORMAT = "lcam-attention/1"
_FORMAT_WITH_MODE = "lcam-attention/2"
_FORMAT_WITH_KERNEL = "lcam-attention/3"
_FORMATS = (_FORMAT, _FORMAT_WITH_MODE, _FORMAT_WITH_KERNEL)
_LENGTH = 8
"""Bytes of the number that begins a safetensors file, and what its header's length divides by."""
NO_RUN_HINT = "train one (lcam train DATA --backbone …), or use another method: --method gradcam"


@dataclass(frozen=True)
class AttentionSettings:
    """What an attention was trained for and how.

    Attributes:
        identity: The backbone it belongs to.
        class_names: R names.
        preprocess: What turned images into the classifier's input.
        training: Mode, recipe and all its numbers (JSON values).
        trained_on: Where a file as read brings a head for its classifier: the frozen classifier
            the head was put on. ``identity`` is then the new one's, whose weights are the file.
    """

    identity: Identity
    class_names: list[str]
    preprocess: Preprocess
    training: dict[str, Any] = field(default_factory=dict)
    trained_on: Identity | None = None


@dataclass(frozen=True)
class AttentionFile:
    """An attention as read.

    Attributes:
        path: The file.
        attention: What it holds.
        settings: What it was trained for; None for the authors' checkpoints.
        origin: What a checkpoint of TAME's or T-TAME's authors says; None for every other file.
    """

    path: Path
    attention: Learned
    settings: AttentionSettings | None
    origin: Origin | None = None

    @property
    def training(self) -> dict[str, Any]:
        """Mode and numbers of the training; of the authors' checkpoints what is known of them."""
        if self.settings is not None:
            return self.settings.training
        return {"mode": "tame", "layers": list(self.origin.layers)} if self.origin else {}


def save_attention(path: Path, attention: Learned, settings: AttentionSettings) -> None:
    """Write an attention file, whole or not at all."""
    format_ = _format_of(attention)
    metadata = {
        "format": format_,
        "lcam_version": __version__,
        "backbone": json.dumps(asdict(settings.identity)),
        "class_names": json.dumps(settings.class_names),
        "preprocess": json.dumps(settings.preprocess.to_json()),
        "training": json.dumps(settings.training),
    }
    if format_ != _FORMAT:
        metadata["mode"] = settings.training["mode"]
    tensors = {
        name: tensor.detach().float().cpu().contiguous()
        for name, tensor in attention.tensors().items()
    }
    write_atomically(path, _same_bytes(save(tensors, metadata)))


def _format_of(attention: Learned) -> str:
    """The oldest format that says all there is to say."""
    tensors = attention.tensors()
    if any(name.startswith("kernel") for name in tensors):
        return _FORMAT_WITH_KERNEL
    return _FORMAT if isinstance(attention, Attention) else _FORMAT_WITH_MODE


def _same_bytes(written: bytes) -> bytes:
    """The same safetensors file with its header in alphabetical order.

    The library writes the metadata in the order of a hash table, another one every time: without
    this, the same training would not give the same file.
    """
    length = int.from_bytes(written[:_LENGTH], "little")
    header = json.loads(written[_LENGTH : _LENGTH + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _LENGTH)  # as the library does, so that the tensors are aligned
    return len(text).to_bytes(_LENGTH, "little") + text + written[_LENGTH + length :]


def trained_files(runs: Path = Path("runs")) -> list[Path]:
    """The attention files of the runs under ``runs``, the newest first."""
    found = runs.glob(f"*/{FILE_NAME}")
    return sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)


def find_attention(given: Path | None, runs: Path = Path("runs")) -> Path:
    """Find the attention file: a file, a run's folder, or the newest run under ``runs``.

    Raises:
        LcamError: There is none.
    """
    if given is None:
        found = trained_files(runs)
        if not found:
            raise LcamError(f"there is no trained attention in {runs}/", NO_RUN_HINT)
        return found[0]
    path = given / FILE_NAME if given.is_dir() else given
    if not path.is_file():
        raise LcamError(f"there is no attention file {path}", NO_RUN_HINT)
    return path


def load_attention(path: Path) -> AttentionFile:
    """Read an attention file of ours, or a checkpoint of the authors' projects.

    L-CAM's hold ``attnM.op.weight`` (R, K, 1, 1) and ``attnM.op.bias`` in a ``state_dict``
    with the whole backbone; L-CAM's of the T-TAME project hold names ending in
    ``attn_mech.op.weight`` and ``.bias``. TAME's and T-TAME's: :mod:`~lcam_cli.methods.tame_file`.

    Raises:
        LcamError: The file is missing or damaged, or holds no attention.
    """
    if path.suffix != ".safetensors":
        return _load_checkpoint(path)
    mode, settings = _read_settings(path)
    attention = _learned(path, mode, tensors_of(read_checkpoint(path)))
    R = attention.classes
    if R is not None and len(settings.class_names) != R:
        raise LcamError(
            f"{path} names {len(settings.class_names)} classes for {R} rows",
            "train it again: the file is damaged",
        )
    if isinstance(attention, TrainedHead):
        frozen = settings.identity
        own = replace(frozen, weights=sha256_of_file(path), weights_file=str(path))
        settings = replace(settings, identity=own, trained_on=frozen)
    return AttentionFile(path, attention, settings)


def _load_checkpoint(path: Path) -> AttentionFile:
    """Read a checkpoint of the authors' projects."""
    content = read_checkpoint(path)
    found = read_tame(str(path), content)
    if found is None:
        return AttentionFile(path, _learned(path, LCAM_MODES[0], _lcam_tensors(content)), None)
    tame, origin = found
    _check_finite(path, tame)
    return AttentionFile(path, tame, None, origin)


def _learned(path: Path, mode: str, tensors: Mapping[str, torch.Tensor]) -> Learned:
    """What a mode of training left in these tensors."""
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    try:
        attention = OF_TENSORS[mode](tensors)
    except ValueError as needed:
        raise LcamError(
            f"{path} does not hold an attention: it needs {needed}",
            "pass a file that lcam train or the authors' code wrote",
        ) from None
    _check_finite(path, attention)
    return attention


def _check_finite(path: Path, attention: Learned) -> None:
    if not all(torch.isfinite(t).all() for t in attention.tensors().values()):
        raise LcamError(f"{path} holds values that are not finite", "train it again")


def holds_trained_head(path: Path) -> bool:
    """Whether this is an attention file that brings a head for its classifier."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            metadata = opened.metadata() or {}
    except Exception:  # a damaged file: whoever reads it says so
        return False
    return metadata.get("format") == _FORMAT_WITH_MODE and metadata.get("mode") in HEAD_MODES


def check_fits(file: AttentionFile, backbone: Backbone) -> None:
    """Check that an attention belongs to this backbone.

    Raises:
        LcamError: Another backbone, weights or layer, or other numbers of classes or channels;
            the message names both.
    """
    trained = file.settings.identity if file.settings else None
    here = backbone.identity
    if trained is not None and trained != here:
        for what, there, now in (
            ("backbone", trained.name, here.name),
            ("weights", trained.weights, here.weights),
            ("layer", trained.layer, here.layer),
            ("grid", trained.grid or "found automatically", here.grid or "found automatically"),
            ("activation", trained.activation, here.activation),
            (
                "output",
                trained.output or "found automatically",
                here.output or "found automatically",
            ),
            ("last step", trained.probabilities or "logits", here.probabilities or "logits"),
        ):
            if there != now:
                raise LcamError(
                    f"{file.path} was trained for {what} {there}, not {now}",
                    "remove --backbone, --weights, --layer, --grid, --activation and --output: the "
                    "file has its own",
                )
    if file.origin is not None:
        check_origin(str(file.path), file.origin, backbone)
    R, K = file.attention.classes, file.attention.channels
    # An authors' TAME may be explained beside methods of a later layer.
    if file.origin is None and backbone.feature_shape[0] != K:
        raise LcamError(
            f"{file.path} expects {K} feature maps; "
            f"layer {here.layer} of {here.name} has {backbone.feature_shape[0]}",
            "pass the layer it was trained on: --layer NAME",
        )
    if R is not None and backbone.num_classes != R:
        raise LcamError(
            f"{file.path} has {R} classes, but {here.name} has {backbone.num_classes}",
            "pass the backbone and weights it was trained for",
        )
    if isinstance(file.attention, Tame):
        check_layers(str(file.path), file.attention, layers_of(file.training), backbone)


def _read_settings(path: Path) -> tuple[str, AttentionSettings]:
    """The mode, and what an attention was trained for."""
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            metadata = opened.metadata() or {}
        if metadata.get("format") not in _FORMATS:
            raise LcamError(
                f"{path} is not a {_FORMAT} file",
                "pass the attention.safetensors of an lcam train run",
            )
        names = json.loads(metadata["class_names"])
        training = json.loads(metadata["training"])
        recorded = {k: str(v) for k, v in json.loads(metadata["backbone"]).items()}
        recorded["activation"] = check_activation(recorded.get("activation", "softmax"))
        check_kind(recorded.get("probabilities", ""))
        identity = Identity(**recorded)  # type: ignore[arg-type]
        preprocess = Preprocess.from_json(json.loads(metadata["preprocess"]))
        if not (isinstance(names, list) and isinstance(training, dict)):
            raise TypeError("class_names or training")
        mode = LCAM_MODES[0] if metadata["format"] == _FORMAT else metadata["mode"]
        if mode not in OF_TENSORS:
            raise LcamError(
                f"{path} has mode {mode!r}, which this version does not know",
                f"use one of {', '.join(OF_TENSORS)}, or install a newer version",
            )
        if metadata["format"] != _FORMAT and training.get("mode") != mode:
            raise ValueError(f"mode {mode}, but trained as {training.get('mode')}")
    except LcamError:
        raise
    except Exception as error:  # metadata of a stranger can be wrong in any way
        raise LcamError(
            f"cannot read {path}: {type(error).__name__}: {error}", "train it again"
        ) from None
    return mode, AttentionSettings(identity, [str(n) for n in names], preprocess, training)


def _lcam_tensors(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """``weight`` (R, K) and ``bias`` (R,) of an L-CAM's checkpoint; empty where it has none."""
    nested = content.get("state_dict")
    state = tensors_of(nested if isinstance(nested, Mapping) else content)
    for stem in ("attnM.op", "attn_mech.op"):
        weights = [k for k in state if k == f"{stem}.weight" or k.endswith(f".{stem}.weight")]
        if len(weights) == 1:
            W, b = state[weights[0]], state.get(weights[0].removesuffix("weight") + "bias")
            if b is not None and W.ndim > 1 and W.shape[2:].numel() == 1:
                return {"weight": W.flatten(1), "bias": b}
    return {}
