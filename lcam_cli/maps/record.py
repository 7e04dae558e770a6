"""The record every method hands to every writer, and every reader hands back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lcam_cli.images.find import Skipped
from lcam_cli.version import __version__

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
MapDtype = Literal["float16", "uint8", "float32"]
Tiled = Literal["asked", "unknown"]
"""Why the cells of maps tile the image evenly: ``--no-align``, or where they lie is not known."""


@dataclass(frozen=True)
class Shard:
    """Which of a run's images a file holds, where several files hold those of one run.

    Attributes:
        first: The first of them, counted from 0 in the order of the inputs.
        stop: The one behind the last of them.
        pictures: All images of the run.
        inputs: SHA-256 of what is asked of them all: their names, in order, and the classes.
    """

    first: int
    stop: int
    pictures: int
    inputs: str

    @classmethod
    def of(cls, part: range, names: Sequence[str], classes: str) -> Shard:
        """Return the shard of the images ``part``.

        Args:
            part: Which images.
            names: What all the run's images are called in the rows.
            classes: Which classes are explained, in words that are the same for every shard.
        """
        listed = "\0".join([classes, *names]).encode("utf-8", "surrogateescape")
        return cls(part.start, part.stop, len(names), hashlib.sha256(listed).hexdigest())


@dataclass(frozen=True)
class MapsInfo:
    """What all the maps of one output have in common.

    Attributes:
        method: The method's name in the registry, e.g. ``"lcam-img"``.
        method_params: The method's settings; must survive a round trip through JSON.
        backbone: The classifier's name.
        weights: Name of the weights, or ``"sha256:…"`` of their file.
        weights_file: Where that file was, a hint for finding it again; empty for named weights.
        layer: The module whose output is A.
        grid: ``"PxQ"`` of a transformer's patches where it had to be said, else empty.
        activation: What turned logits into scores, ``"softmax"``, ``"sigmoid"`` or ``"none"``.
        output: Which of the classifier's outputs were its logits where it had to be said, else
            empty.
        probabilities: The last step that was taken off the classifier, such as ``"softmax"``;
            empty for none.
        precision: What the classifier computed in, ``"fp32"``, ``"bf16"`` or ``"fp16"``; empty
            where it is not known. Images on which fp16 gives no numbers are computed in fp32.
        preprocess: ``Preprocess.to_json()``: how an image became the network's input.
        root: The folder that relative row paths start from.
        classes: The names of all classes, in the classifier's order; empty where the file does not
            say.
        classes_explained: Which classes of every image, ``{"classes": [281, 282]}`` for named
            ones and ``{"top_k": 1}`` for the best-scored; empty where it is not known.
        lcam_version: The version that wrote the maps.
        created: When writing began, ISO 8601; writers fill it in where it is empty.
        shard: Which of the run's images these are the maps of; None for all of them.
    """

    method: str
    backbone: str
    weights: str
    layer: str
    root: str
    method_params: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    weights_file: str = ""
    grid: str = ""
    activation: str = "softmax"
    output: str = ""
    probabilities: str = ""
    precision: str = ""
    classes: Sequence[str] = ()
    classes_explained: dict[str, Any] = field(default_factory=dict)
    lcam_version: str = __version__
    created: str = ""
    shard: Shard | None = None

    @property
    def aligned(self) -> bool | None:
        """Whether cells lie where their receptive fields are; None where that is not recorded."""
        return self.method_params["grid"] is not None if "grid" in self.method_params else None

    @property
    def align(self) -> bool:
        """Whether maps drawn beside these, as the random row's, are placed by receptive fields.

        Not where these tile the image because that was asked for, or, in a file of lcam 0.1.0,
        was the default.
        """
        return self.method_params.get("align", self.aligned) is not False

    @property
    def tiled(self) -> Tiled | None:
        """Why the cells tile the image; see :func:`why_tiled`."""
        return why_tiled(self.method_params)

    @property
    def forward_passes(self) -> int | None:
        """Forward passes of the classifier that a map cost; None where the file does not say."""
        passes = self.method_params.get("forward_passes")
        return passes if isinstance(passes, int) and not isinstance(passes, bool) else None

    def continuing(self, old: MapsInfo) -> MapsInfo:
        """What is said of old maps and these together: what was not known of the old ones is not.

        Args:
            old: Of the maps that these go on from; :meth:`difference` names nothing.
        """
        return replace(
            self,
            classes_explained=old.classes_explained and self.classes_explained,
            classes=old.classes and self.classes,
            precision=old.precision and self.precision,
        )

    def difference(self, other: MapsInfo) -> str:
        """Name the first setting that makes maps of ``other`` no continuation of these.

        Returns:
            E.g. ``"method is 'rise', not 'lcam'"`` (these first); empty where none differs.
            Where the weights' file lies, the version and the date may differ; and the classes,
            their names and the precision where one of the two does not say which.
        """
        in_words = {
            "preprocess": _prepared_otherwise,
            "classes_explained": self._explains_other,
        }
        for name in (
            "method",
            "method_params",
            "backbone",
            "weights",
            "layer",
            "grid",
            "activation",
            "output",
            "probabilities",
            "precision",
            "preprocess",
            "root",
            "classes_explained",
        ):
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "method_params":
                mine, theirs = _not_of_placing(mine), _not_of_placing(theirs)
            if name in ("classes_explained", "precision") and not (mine and theirs):
                continue
            if name in in_words:
                if differs := in_words[name](mine, theirs):
                    return differs
                continue
            # As JSON, where a tuple is the list that it was read back as.
            if json.dumps(mine, sort_keys=True) != json.dumps(theirs, sort_keys=True):
                return f"{name} is {mine!r}, not {theirs!r}"
        if self.classes and other.classes and list(self.classes) != list(other.classes):
            return "the classes have other names or another order"
        if differs := _placed_otherwise(self.method_params, other.method_params):
            return differs
        if self.shard != other.shard:
            return f"they cover {_part(self.shard)}, not {_part(other.shard)}"
        return ""

    def _explains_other(self, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
        """Say how the classes explained differ; empty where they do not."""
        if json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True):
            return ""
        return f"they explain {self._explained(mine)}, these {self._explained(theirs)}"

    def _explained(self, which: Mapping[str, Any]) -> str:
        """The classes that maps explain, in words."""
        if "classes" in which:
            names = [self.classes[i] if i < len(self.classes) else str(i) for i in which["classes"]]
            return f"class {names[0]}" if len(names) == 1 else f"classes {', '.join(names)}"
        top_k = which.get("top_k", 1)
        return "the predicted class" if top_k == 1 else f"the {top_k} classes with highest scores"


def _prepared_otherwise(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Name the first setting of the preprocessing that differs; empty where none does."""
    here, there = preprocess_of_0_1(mine), preprocess_of_0_1(theirs)
    for name in dict.fromkeys((*here, *there)):
        one, other = (x.get(name, _NEW_IN_PREPROCESS.get(name)) for x in (here, there))
        if json.dumps(one) != json.dumps(other):
            return f"preprocess {name} is {one!r}, not {other!r}"
    return ""


_NEW_IN_PREPROCESS = {"window": "auto", "crop_rounding": "even"}


def preprocess_of_0_1(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return preprocessing settings as lcam 0.1.0 recorded them, where it had words for them.

    So that what it began goes on: a new setting counts where it differs from what was done then.
    The number of channels is that of the means.
    """
    return {
        name: value
        for name, value in settings.items()
        if name != "channels" and value != _NEW_IN_PREPROCESS.get(name, ...)
    }


def why_tiled(method_params: Mapping[str, Any]) -> Tiled | None:
    """Return why the cells of maps tile the image evenly, from what is recorded of their method.

    Returns:
        None where they do not, maps are not made of cells, or it is not recorded. A file of lcam
        0.1.0, which tiled by default, counts as one of ``--no-align``.
    """
    if method_params.get("grid", ...) is not None:
        return None
    align = method_params.get("align", False)
    return None if align is None else "unknown" if align else "asked"


_TILE = "tile the image evenly (--no-align)"
_PLACED = "are placed by the receptive fields of their cells (--align)"


def _placed_otherwise(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Name the difference between where two methods' cells lie; empty where there is none."""
    here, there = mine.get("grid"), theirs.get("grid")
    if here == there:
        return ""
    if here is None:
        return f"they {_TILE}, these {_PLACED}"
    if there is None:
        return f"they {_PLACED}, these {_TILE}"
    return f"their cells are at {here!r}, not at {there!r}"


def _not_of_placing(method_params: dict[str, Any]) -> dict[str, Any]:
    """All but what was asked for, which lcam 0.1.0 left out, and the grid, if any, it came to."""
    return {name: value for name, value in method_params.items() if name not in ("align", "grid")}


def _part(shard: Shard | None) -> str:
    if shard is None:
        return "all images"
    return f"images {shard.first} to {shard.stop} of {shard.pictures} ({shard.inputs[:8]})"


@dataclass(frozen=True)
class Map:
    """One image and one class.

    Attributes:
        saliency: V, float32 ``(H, W)`` in [0, 1] at the network's input size.
        cam: L before normalisation, float32 ``(P, Q)``; None where the method has none.
        path: The image, relative to the root, or absolute where it lies outside it.
        class_index: The class explained.
        predicted_index: The classifier's top-1.
        class_name: Name of the class explained.
        confidence: Score of the class explained on the unmasked image, in [0, 1].
        crop_box: x0, y0, x1, y1 of the network's view in the upright original, in pixels; beyond
            it where there is black around the image.
        size: Width and height of the upright original; None where it was not read.
    """

    saliency: Floats
    cam: Floats | None
    path: str
    class_index: int
    predicted_index: int
    class_name: str
    confidence: float
    crop_box: tuple[float, float, float, float]
    size: tuple[int, int] | None = None


@dataclass
class MapBatch:
    """B rows at once, and the inputs near them that could not be read.

    Attributes:
        saliency: float32 ``(B, H, W)`` in [0, 1].
        cam: float32 ``(B, P, Q)``, or None.
        paths: B paths; bytes that are not UTF-8 are surrogate escapes.
        class_index: int32 ``(B,)``.
        predicted_index: int32 ``(B,)``.
        class_names: B names.
        confidence: float32 ``(B,)`` in [0, 1].
        crop_box: float32 ``(B, 4)`` in pixels.
        skipped: Inputs that could not be read; may be there when B is 0.
        sizes: int32 ``(B, 2)``: width and height of the upright originals; None where they were
            not read, as in what a maps file gives back.
    """

    saliency: Floats
    cam: Floats | None
    paths: list[str]
    class_index: Ints
    predicted_index: Ints
    class_names: list[str]
    confidence: Floats
    crop_box: Floats
    skipped: list[Skipped] = field(default_factory=list)
    sizes: Ints | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Map]:
        for row in range(len(self)):
            x0, y0, x1, y1 = (float(edge) for edge in self.crop_box[row])
            width, height = (0, 0) if self.sizes is None else map(int, self.sizes[row])
            yield Map(
                saliency=self.saliency[row],
                cam=None if self.cam is None else self.cam[row],
                path=self.paths[row],
                class_index=int(self.class_index[row]),
                predicted_index=int(self.predicted_index[row]),
                class_name=self.class_names[row],
                confidence=float(self.confidence[row]),
                crop_box=(x0, y0, x1, y1),
                size=None if self.sizes is None else (width, height),
            )

    def finite(self) -> NDArray[np.bool_]:
        """Which rows hold numbers alone, (B,)."""
        found = np.isfinite(self.saliency).all((1, 2)) & np.isfinite(self.confidence)
        if self.cam is not None:
            found &= np.isfinite(self.cam).all((1, 2))
        return np.asarray(found)

    def only(self, rows: NDArray[np.bool_]) -> MapBatch:
        """Some of the rows, (B,), without what was skipped."""
        return MapBatch(
            saliency=self.saliency[rows],
            cam=None if self.cam is None else self.cam[rows],
            paths=list(compress(self.paths, rows)),
            class_index=self.class_index[rows],
            predicted_index=self.predicted_index[rows],
            class_names=list(compress(self.class_names, rows)),
            confidence=self.confidence[rows],
            crop_box=self.crop_box[rows],
            sizes=None if self.sizes is None else self.sizes[rows],
        )

    def merged(self, others: MapBatch, order: Sequence[str]) -> MapBatch:
        """These rows and others of other images, as one batch without what was skipped.

        Args:
            others: Of the same method, with maps of the same size.
            order: The paths of all images, in the order wanted.
        """
        if not (len(self) and len(others)):
            return replace(self if len(self) else others, skipped=[])
        place = {path: i for i, path in enumerate(order)}
        paths = [*self.paths, *others.paths]
        # A stable sort: the rows of an image stay in their order.
        rows = sorted(range(len(paths)), key=lambda row: place[paths[row]])

        def both(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(self, name), getattr(others, name)])[rows]

        class_names = [*self.class_names, *others.class_names]
        return MapBatch(
            saliency=both("saliency"),
            cam=None if self.cam is None else both("cam"),
            paths=[paths[row] for row in rows],
            class_index=both("class_index"),
            predicted_index=both("predicted_index"),
            class_names=[class_names[row] for row in rows],
            confidence=both("confidence"),
            crop_box=both("crop_box"),
            sizes=None if self.sizes is None or others.sizes is None else both("sizes"),
        )

    def check(self) -> None:
        """Raise ValueError where the parts do not fit together, or a number is none or outside.

        Every writer calls this, so that no file is written that the reader would refuse.
        """
        rows = len(self)
        numbers: list[NDArray[Any]] = [self.saliency, self.class_index, self.predicted_index]
        numbers += [self.confidence, self.crop_box, *([] if self.cam is None else [self.cam])]
        if {len(part) for part in numbers} | {len(self.class_names)} != {rows}:
            raise ValueError(f"the parts of a batch of {rows} maps differ in length")
        # Written so that NaN, which compares false with everything, fails too.
        if rows and not (self.saliency.min() >= 0 and self.saliency.max() <= 1):
            raise ValueError("saliency outside [0, 1]")
        if not self.finite().all():
            raise ValueError("a map or a confidence is not finite")
