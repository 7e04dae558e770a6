"""What a maps file says of its maps: its attributes, written once and read without trust."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any

import h5py
import numpy as np

from lcam_cli.errors import LcamError
from lcam_cli.maps.hdf5.texts import utf8
from lcam_cli.maps.record import MapsInfo, Shard

SCHEMA = "lcam-maps"
METHODS_SCHEMA = "lcam-maps-by-method"
"""Of a file that holds a group a method, each of which is laid out as a file of ``SCHEMA``."""
SCHEMA_VERSION = 1

FILE_ID = "file_id"
"""A random name for what was written; a file that is written anew has another one."""
FLAT_ROWS = "flat_rows"
"""How many maps have one value everywhere; -1 until the file is complete."""
JOINED_IDS = "joined_files"
"""In a file that joins others: the ``FILE_ID`` of each, or nothing, by its name (JSON)."""

_LONGEST = 1 << 20


def write_info(attributes: h5py.AttributeManager, info: MapsInfo) -> None:
    """Write what all maps of a file have in common; the file is not complete."""
    texts = {
        "schema": SCHEMA,
        "lcam_version": info.lcam_version,
        "method": info.method,
        "method_params": json.dumps(info.method_params, sort_keys=True),
        "backbone": info.backbone,
        "weights": info.weights,
        "weights_file": info.weights_file,
        "layer": info.layer,
        "grid": info.grid,
        "activation": info.activation,
        "output": info.output,
        "probabilities": info.probabilities,
        "precision": info.precision,
        "preprocess": json.dumps(info.preprocess, sort_keys=True),
        "root": info.root,
        "created": info.created,
        FILE_ID: new_id(),
        **_classes(info),
        **({"shard": json.dumps(dataclasses.asdict(info.shard))} if info.shard else {}),
    }
    for name, text in texts.items():
        attributes.create(name, utf8(text), dtype=h5py.string_dtype("utf-8"))
    attributes["schema_version"] = SCHEMA_VERSION
    attributes["complete"] = False
    # Numbers that are set in place: a header that grew could not be trusted after a kill.
    attributes[FLAT_ROWS] = np.int64(-1)


def read_info(attributes: h5py.AttributeManager) -> MapsInfo:
    """Return what the file attributes say.

    Those that nothing hangs on may be missing: files come from other programs too.

    Raises:
        LcamError: if one is missing or not of its type; the message lacks the file's name.
    """
    if attribute(attributes, "schema", str) != SCHEMA:
        raise LcamError("it is not a maps file: attribute schema differs")
    version = attribute(attributes, "schema_version", int)
    if version != SCHEMA_VERSION:
        raise LcamError(
            f"it has schema version {version}, but this lcam reads version {SCHEMA_VERSION}"
        )
    needed = ("method", "backbone", "weights", "layer", "root")
    may_be_missing = (
        *("weights_file", "grid", "activation", "output", "probabilities", "precision"),
        *("lcam_version", "created"),
    )
    optional = [n for n in may_be_missing if n in attributes]
    return MapsInfo(
        **{
            "lcam_version": "",
            **{name: attribute(attributes, name, str) for name in (*needed, *optional)},
        },
        method_params=_json_object(attributes, "method_params")
        if "method_params" in attributes
        else {},
        preprocess=_json_object(attributes, "preprocess"),
        classes_explained=_json_object(attributes, "classes_explained")
        if "classes_explained" in attributes
        else {},
        shard=_shard(attributes) if "shard" in attributes else None,
    )


def _shard(attributes: h5py.AttributeManager) -> Shard:
    value = _json_object(attributes, "shard")
    kinds = {name: type(part) for name, part in value.items()}
    if kinds != {"first": int, "stop": int, "pictures": int, "inputs": str}:
        raise LcamError("attribute shard does not say which images it covers")
    return Shard(**value)


def read_flat_rows(attributes: h5py.AttributeManager) -> int | None:
    """Return how many maps are said to be flat; None where that is not said.

    Raises:
        LcamError: It is no number; the message lacks the file's name.
    """
    if FLAT_ROWS not in attributes:
        return None
    count: int = attribute(attributes, FLAT_ROWS, int)
    return count if count >= 0 else None


def is_complete(attributes: h5py.AttributeManager) -> bool:
    """Return whether the run that wrote the file came to its end; other programs may not say."""
    # MATLAB has no booleans to write.
    return "complete" not in attributes or bool(attribute(attributes, "complete", int))


def attribute(attributes: h5py.AttributeManager, name: str, kind: type) -> Any:
    """Return an attribute as a plain Python value.

    Raises:
        LcamError: if it is missing or not of that kind; the message lacks the file's name.
    """
    value = None
    if name in attributes:
        # Looked at before it is read: what it declares is what would be allocated.
        declared = attributes.get_id(name)
        if declared.shape != () or declared.dtype.itemsize > _LONGEST:
            raise LcamError(f"attribute {name} is not a single {kind.__name__}, or is too long")
        value = attributes[name]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, kind) or (isinstance(value, str) and "\0" in value):
        raise LcamError(f"attribute {name} is missing or not of type {kind.__name__}")
    return value


def _json_object(attributes: h5py.AttributeManager, name: str) -> dict[str, Any]:
    try:
        value = json.loads(attribute(attributes, name, str))
    except (ValueError, RecursionError) as error:
        raise LcamError(f"attribute {name} is not JSON") from error
    if not isinstance(value, dict):
        raise LcamError(f"attribute {name} is not a JSON object")
    return value


def new_id() -> str:
    """Return a name for a file about to be written."""
    return uuid.uuid4().hex


def read_id(attributes: h5py.AttributeManager) -> str:
    """Return the name of what was written; empty for files of older versions and other programs.

    Raises:
        LcamError: It is no text; the message lacks the file's name.
    """
    return attribute(attributes, FILE_ID, str) if FILE_ID in attributes else ""


def read_joined_ids(attributes: h5py.AttributeManager) -> dict[str, Any]:
    """Return what the joined files were when they were joined; empty where nothing says so.

    Raises:
        LcamError: It is not as the format says; the message lacks the file's name.
    """
    return _json_object(attributes, JOINED_IDS) if JOINED_IDS in attributes else {}


def _classes(info: MapsInfo) -> dict[str, str]:
    if not info.classes_explained:  # not known, as of a file that said nothing
        return {}
    return {"classes_explained": json.dumps(info.classes_explained, sort_keys=True)}
