"""What a Hugging Face image processor does to an image, said as a ``Preprocess``.

``preprocessor_config.json`` is read as settings of one of transformers' processors, whose class has
the defaults. The processor itself never sees an image: lcam's reading processes make the same one.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from lcam_cli.errors import LcamError, one_line
from lcam_cli.images.preprocess import Interpolation, Preprocess
from lcam_cli.networks.huggingface_config import Description
from lcam_cli.networks.huggingface_folder import Folder, quietly

log = logging.getLogger("lcam")

PROCESSOR = "preprocessor_config.json"
_EDIT = f"change that in {PROCESSOR}, or pass a function (docs/own-network.md) and --image-size"

# The processors whose steps are known, and how each resizes.
_Resizing = Literal["plain", "convnext", "levit", "poolformer"]
_KNOWN: dict[str, _Resizing] = {
    "BeitImageProcessor": "plain",
    "BitImageProcessor": "plain",
    "CLIPImageProcessor": "plain",
    "ConvNextImageProcessor": "convnext",
    "DeiTImageProcessor": "plain",
    "EfficientNetImageProcessor": "plain",
    "LevitImageProcessor": "levit",
    "MobileNetV1ImageProcessor": "plain",
    "MobileNetV2ImageProcessor": "plain",
    "MobileViTImageProcessor": "plain",
    "PoolFormerImageProcessor": "poolformer",
    "PvtImageProcessor": "plain",
    "SegformerImageProcessor": "plain",
    "SiglipImageProcessor": "plain",
    "ViTHybridImageProcessor": "plain",
    "ViTImageProcessor": "plain",
}
# What a preprocessing here cannot say.
_UNKNOWN = ("do_pad", "do_thumbnail", "do_align_long_axis", "do_color_quantize")
# Pillow's numbers.
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
_CONVNEXT_WARPS_FROM = 384  # pixels: from there it sees the whole image, distorted


@dataclass(frozen=True)
class Pictures:
    """How images reach the network.

    Attributes:
        preprocess: Their size and values.
        is_flipped: Whether the network wants blue, green, red.
    """

    preprocess: Preprocess
    is_flipped: bool = False


def read_pictures(name: str, folder: Folder, described: Description) -> Pictures:
    """Read how a classifier's images are prepared.

    Where there is no ``preprocessor_config.json``, transformers refuses to guess. Here it is the
    architecture's default at the size that ``config.json`` has, and a warning says so.

    Raises:
        LcamError: Its processor is not one of transformers', or does what cannot be done here.
    """
    settings = folder.read_json(PROCESSOR)
    if settings is None:
        return _of_default(name, described)
    kind = _class_of(name, settings, described)
    return _translate(name, kind, _Processor(name, kind, settings), described)


class _Processor:
    """One of transformers' processors, of which only the settings are read.

    Attributes:
        rounds_to_even: Whether its crop begins at the even neighbour of half a pixel.
    """

    def __init__(self, name: str, kind: str, settings: Mapping[str, Any]) -> None:
        import transformers  # noqa: PLC0415 (an extra)

        # As torchvision does, which the quick ones of transformers 4 call.
        self.rounds_to_even = transformers.__version__.startswith("4.") and str(
            settings.get("image_processor_type")
        ).endswith("Fast")
        # The one on Pillow, where there are two.
        found = getattr(transformers, f"{kind}Pil", None) or getattr(transformers, kind)
        try:
            with quietly():
                self._own = found.from_dict(dict(settings))
        except Exception as error:  # checks of all kinds
            raise LcamError(
                f"{PROCESSOR} of {name} cannot be read by transformers: {one_line(error)}",
                "download it again, or write it again with save_pretrained",
            ) from None

    def get(self, key: str) -> Any:
        """A setting, or None; also None for a step that the processor does not have."""
        # In transformers 4 a processor's steps are named, and settings of others are ignored.
        named = inspect.signature(self._own.preprocess).parameters
        if key.startswith("do_") and "do_resize" in named and key not in named:
            return None
        return getattr(self._own, key, None)

    def size(self, key: str) -> dict[str, int]:
        """A size: its parts by name, those that are set."""
        parts = dict(self.get(key) or {})
        return {k: v for k, v in parts.items() if v is not None}

    def cannot(self, what: str) -> LcamError:
        """What to say of a step that cannot be done here."""
        return LcamError(f"the processor {what}, which lcam does not do", _EDIT)


def _class_of(name: str, settings: Mapping[str, Any], described: Description) -> str:
    """The processor's class by its name in transformers 4, without the backend."""
    kind = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if kind is None and settings.get("auto_map"):
        kind = str(settings["auto_map"])
    if kind is None:
        kind = _default_class(described)
    plain = str(kind).replace("FeatureExtractor", "ImageProcessor")
    plain = plain.removesuffix("Fast").removesuffix("Pil")
    if plain not in _KNOWN or not _is_there(plain):
        raise LcamError(
            f"{PROCESSOR} of {name} names the processor {plain!r:.80}, whose steps lcam does not "
            "know" + (" (its code is never run)" if settings.get("auto_map") else ""),
            _EDIT,
        )
    return plain


def _is_there(kind: str) -> bool:
    import transformers  # noqa: PLC0415 (an extra)

    return hasattr(transformers, kind) or hasattr(transformers, f"{kind}Pil")


def _default_class(described: Description) -> str:
    """The class that transformers has for an architecture; ``""`` where it has none."""
    from transformers.models.auto import image_processing_auto  # noqa: PLC0415 (an extra)

    found: Any = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(described.model_type)
    if isinstance(found, Mapping):  # from transformers 5 on by their backends
        found = list(found.values())
    return str(next((kind for kind in found or () if kind), ""))


def _of_default(name: str, described: Description) -> Pictures:
    """The default processor's, at the size that ``config.json`` has."""
    kind = _default_class(described).removesuffix("Pil")
    size = described.sizes("image_size")
    if kind not in _KNOWN or not _is_there(kind):
        own = (
            Preprocess() if size is None else Preprocess(image_size=size, resize=min(size) * 8 // 7)
        )
        log.warning("%s has no %s: images are prepared as for ImageNet", name, PROCESSOR)
        return Pictures(own.with_channels(described.number("num_channels") or 3))
    default = _Processor(name, kind, {})
    settings: dict[str, Any] = {}
    if size is not None:
        settings["size"] = {"height": size[0], "width": size[1]}
        edge, crop = default.size("size").get("shortest_edge"), default.size("crop_size")
        if edge is not None:
            settings["size"] = {"shortest_edge": min(size)}
        if default.get("do_center_crop"):  # the crop keeps its share of the image
            settings["crop_size"] = {"height": size[0], "width": size[1]}
            share = (edge or default.size("size")["height"]) / crop["height"]
            if _KNOWN[kind] == "plain":
                settings["size"] = {
                    k: round(v * max(share, 1)) for k, v in settings["size"].items()
                }
    log.warning(
        "%s has no %s: images are prepared as %s does by default%s",
        name,
        PROCESSOR,
        kind,
        "" if size is None else f", at {size[0]}×{size[1]}",
    )
    return _translate(name, kind, _Processor(name, kind, settings), described)


def _translate(name: str, kind: str, own: _Processor, described: Description) -> Pictures:
    channels = described.number("num_channels") or 3
    try:
        for step in _UNKNOWN:
            if own.get(step):
                raise own.cannot(f"has {step}")
        mean, std = _values(kind, own, channels)
        preprocess = Preprocess(
            **_geometry(name, _KNOWN[kind], own, described),
            mean=mean,
            std=std,
            interpolation=_interpolation(own),
            crop_rounding="even" if own.rounds_to_even else "down",
        )
    except LcamError as error:
        raise LcamError(f"{PROCESSOR} of {name}: {error.what}", error.hint) from None
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise LcamError(
            f"{PROCESSOR} of {name} is inconsistent: {type(error).__name__}: {one_line(error)}",
            "download it again, or write it again with save_pretrained",
        ) from None
    if preprocess.channels != channels:
        log.warning(
            "%s expects %d channels, but %s has mean and std for %d: each channel gets their "
            "average",
            name,
            channels,
            PROCESSOR,
            preprocess.channels,
        )
        preprocess = preprocess.with_channels(channels)
    return Pictures(preprocess, bool(own.get("do_flip_channel_order")))


def _interpolation(own: _Processor) -> Interpolation:
    number = own.get("resample")
    name = "bilinear" if number is None else dict(enumerate(_FILTERS))[int(number)]
    return cast(Interpolation, name)


# --- size -----------------------------------------------------------------------------------------


def _geometry(
    name: str, resizing: _Resizing, own: _Processor, described: Description
) -> dict[str, Any]:
    """``image_size``, ``resize`` and ``fit``."""
    crop = _pair(own.size("crop_size")) if own.get("do_center_crop") else None
    if own.get("do_center_crop") and crop is None:
        raise own.cannot(f"crops to {own.size('crop_size')}")
    if not own.get("do_resize"):
        return _not_resized(crop, own, described)
    size = own.size("size")
    if resizing == "convnext":
        return _convnext(size, crop, own)
    if resizing == "poolformer" and own.get("crop_pct") is not None:
        size = {"shortest_edge": int(_edge(size, own) / own.get("crop_pct"))}
    if resizing == "levit" and "shortest_edge" in size:
        size = {"shortest_edge": int(256 / 224 * size["shortest_edge"])}
    exact = _pair(size)
    if exact is not None:
        return _resized_exactly(exact, crop, own)
    if size.keys() != {"shortest_edge"}:
        raise own.cannot(f"resizes to {size}")
    edge = size["shortest_edge"]
    if crop is None:
        log.warning(
            "the image processor of %s keeps the shape of images, with %d pixels as the shorter "
            "side: lcam uses the square in the centre",
            name,
            edge,
        )
        crop = (edge, edge)
    if crop[0] != crop[1]:
        raise own.cannot(f"crops {crop[0]}×{crop[1]} of a shorter side of {edge} pixels")
    if crop[0] > edge:
        raise own.cannot(f"adds black around images, from {edge} to {crop[0]} pixels")
    return {"image_size": crop[0], "resize": edge, "fit": "crop"}


def _not_resized(
    crop: tuple[int, int] | None, own: _Processor, described: Description
) -> dict[str, Any]:
    """Pictures as they are: their centre; or those alone that have the network's size."""
    if crop is not None:
        return {"image_size": crop, "resize": 0, "fit": "crop"}
    size = described.sizes("image_size") or _pair(own.size("size"))
    if size is None:
        raise own.cannot("takes images of any size (do_resize is false)")
    return {"image_size": size, "resize": 0, "fit": "squash"}


def _convnext(
    size: Mapping[str, int], crop: tuple[int, int] | None, own: _Processor
) -> dict[str, Any]:
    """Below 384 pixels a crop's share of the image, from there all of it."""
    side = size["shortest_edge"]
    if crop not in (None, (side, side)):
        raise own.cannot(f"crops twice, to {side} and to {crop} pixels")
    if side >= _CONVNEXT_WARPS_FROM:
        return _whole((side, side))
    return {"image_size": side, "resize": int(side / own.get("crop_pct")), "fit": "crop"}


def _resized_exactly(
    exact: tuple[int, int], crop: tuple[int, int] | None, own: _Processor
) -> dict[str, Any]:
    if crop in (None, exact):
        return _whole(exact)
    assert crop is not None
    if crop[0] > exact[0] or crop[1] > exact[1]:
        raise own.cannot(f"adds black around images, from {exact} to {crop} pixels")
    return {"image_size": crop, "resize": exact, "fit": "crop"}


def _whole(size: tuple[int, int]) -> dict[str, Any]:
    """All of the image, distorted; views for training are crops of a little more."""
    return {"image_size": size, "resize": min(size) * 8 // 7, "fit": "squash"}


def _pair(size: Mapping[str, int]) -> tuple[int, int] | None:
    """Height and width, where these are what a size has."""
    if size.keys() != {"height", "width"}:
        return None
    return int(size["height"]), int(size["width"])


def _edge(size: Mapping[str, int], own: _Processor) -> int:
    """The shorter side; of a height and a width the one that both are."""
    pair = _pair(size)
    if pair is None:
        return size["shortest_edge"]
    if pair[0] != pair[1]:
        raise own.cannot(f"resizes to {pair[0]}×{pair[1]} over crop_pct")
    return pair[0]


# --- values ---------------------------------------------------------------------------------------


def _values(
    kind: str, own: _Processor, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of values in 0…1 that do what the processor does to 0…255.

    It gives (255 v·f − o − m) / s, with the factor f of ``rescale_factor`` and the offset o, which
    is (v − (m + o) / 255f) / (s / 255f).
    """
    scale = 255 * float(own.get("rescale_factor")) if own.get("do_rescale") else 255.0
    scale = 1.0 if abs(scale - 1) < 1e-9 else scale
    offset = 1.0 if own.get("do_rescale") and own.get("rescale_offset") else 0.0
    mean, std = (0.0,) * channels, (1.0,) * channels
    # MobileViT's processor has the setting and no such step.
    if own.get("do_normalize") and kind != "MobileViTImageProcessor":
        mean, std = (_numbers(own.get(f"image_{part}"), channels) for part in ("mean", "std"))
    if kind == "EfficientNetImageProcessor" and own.get("include_top"):  # as Keras does it: twice
        again = _numbers(own.get("image_std"), channels)
        std = tuple(s * t for s, t in zip(std, again, strict=True))
    return tuple((m + offset) / scale for m in mean), tuple(s / scale for s in std)


def _numbers(value: Any, channels: int) -> tuple[float, ...]:
    if isinstance(value, int | float):
        return (float(value),) * channels
    numbers = tuple(float(v) for v in value)
    return numbers * channels if len(numbers) == 1 else numbers
