"""Options that several runs share. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lcam_cli.runs import checks as c

if TYPE_CHECKING:
    from lcam_cli.images.preprocess import Fit, Window
    from lcam_cli.maps.overlay_work import OverlayFormat


@dataclass(frozen=True)
class BackboneOptions:
    """The classifier, and how images become its input; None leaves a value to what is loaded.

    Attributes:
        backbone: torchvision's name, ``timm/NAME``, ``hf/ORG/NAME``, a Hugging Face folder,
            ``FILE.pt2``, ``package.module:function`` or ``file.py:function``.
        weights: ``DEFAULT``, ``none``, or a file (``FILE#KEY`` for one of several state dicts).
        layer: The layer whose feature maps are weighed.
        classes: A file with the classes' names, one a line.
        channels: C of the network's input; None for what its source says or its first layer takes.
        image_size: Of the network's input, in pixels: the side of a square, or (H, W).
        resize: Shorter side before the crop, in pixels; of an input that is no square, the
            image is resized until it covers the input times this over the input's shorter side.
        mean: Mean of the channels' values, in 0-1: one number for all, or one a channel.
        std: Their standard deviation, above 0: one number for all, or one a channel.
        window: The values of a file that become 0 and 1, (low, high); ``"auto"`` for the file's
            own, else its type's whole range.
        fit: ``"crop"`` sees the centre, ``"squash"`` all of the image, distorted, ``"pad"`` all
            of it between black bars; None for that of the attention, else of the weights.
        grid: ``"PxQ"``, rows and columns of a transformer's patches.
        activation: ``"softmax"``, ``"sigmoid"`` or ``"none"``.
        output: Which of the network's outputs are the logits.

    Raises:
        LcamError: A value is of a wrong kind or out of range; the message names it.
    """

    backbone: str | None = None
    weights: str | None = None
    layer: str | None = None
    classes: Path | None = None
    channels: int | None = None
    image_size: int | tuple[int, int] | None = None
    resize: int | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    window: Window | None = None
    fit: Fit | None = None
    grid: str | None = None
    activation: str | None = None
    output: str | None = None

    CHECKS: ClassVar[dict[str, c.Check]] = {
        **dict.fromkeys(("backbone", "weights", "layer", "grid", "output"), c.optional(c.text)),
        "classes": c.optional(c.path),
        "channels": c.optional(c.whole(1)),
        "image_size": c.optional(c.image_size),
        "resize": c.optional(c.whole(1)),
        "mean": c.optional(c.of_channels),
        "std": c.optional(c.of_channels),
        "window": c.optional(c.window),
        "fit": c.optional(c.choice("crop", "squash", "pad")),
        "activation": c.optional(c.choice("softmax", "sigmoid", "none")),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)


@dataclass(frozen=True)
class EngineOptions:
    """Where and how the network runs.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        batch_size: Images in a batch; None finds one.
        workers: Processes that read images; None for one a core.
        max_pixels: An image with more is refused; None for the library's own limit.

    Raises:
        LcamError: A value is of a wrong kind or out of range; the message names it.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int | None = None

    CHECKS: ClassVar[dict[str, c.Check]] = {
        "device": c.device,
        "precision": c.choice("auto", "fp32", "bf16", "fp16"),
        **dict.fromkeys(("batch_size", "workers", "max_pixels"), c.optional(c.whole(1))),
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)

    def for_measures(self) -> EngineOptions:
        """Return what measures run with: they are defined in fp32, which auto does not trade."""
        return replace(self, precision="fp32" if self.precision == "auto" else self.precision)


@dataclass(frozen=True)
class PictureOptions:
    """Which images are taken, and what happens with those that cannot be read.

    Attributes:
        max_images: Take so many, by the seed; None for all.
        strict: Stop at the first image that cannot be read.
        listed: Gives the paths that ``"-"`` among the inputs stands for; called once, by the first
            rank.
        run_commands: Whether an input ``"pipe:…"`` is a command for the shell, which prints a tar.
            Only for inputs that a person has typed.

    Raises:
        LcamError: A value is of a wrong kind or out of range; the message names it.
    """

    max_images: int | None = None
    strict: bool = False
    listed: Callable[[], Iterable[str]] = tuple
    run_commands: bool = False

    CHECKS: ClassVar[dict[str, c.Check]] = {
        "max_images": c.optional(c.whole(1)),
        "strict": c.flag,
        "listed": c.function,
        "run_commands": c.flag,
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)


@dataclass(frozen=True)
class OverlayOptions:
    """The overlays: images with their maps drawn over them.

    Attributes:
        folder: Where they go; None for none beside an HDF5 file, and for ``DIR/overlays`` beside a
            folder of PNGs.
        picture_format: ``"png"``, ``"jpg"`` or ``"webp"``.
        colormap: Any name matplotlib knows.
        alpha: Their strength where the map is 1, in 0-1.
        caption: Whether class name and score stand below the image.
        colorbar: Whether a strip below the image shows the colours from 0 to 1, and the values of
            ``window`` where they are given.
        contour: ν in (0, 100]: the highest ν% of the map are outlined; None for no outline.
        smooth: Whether cells of maps are interpolated by cubics, in overlays alone.

    Raises:
        LcamError: A value is of a wrong kind or out of range; the message names it.
    """

    folder: Path | None = None
    picture_format: OverlayFormat = "png"
    colormap: str = "inferno"
    alpha: float = 0.8
    caption: bool = True
    colorbar: bool = False
    contour: float | None = None
    smooth: bool = False

    CHECKS: ClassVar[dict[str, c.Check]] = {
        "folder": c.optional(c.path),
        "picture_format": c.choice("png", "jpg", "webp"),
        "colormap": c.text,
        "alpha": c.number(0, 1),
        "caption": c.flag,
        "colorbar": c.flag,
        "contour": c.optional(c.percent),
        "smooth": c.flag,
    }

    def __post_init__(self) -> None:
        c.check_fields(self, self.CHECKS)


def _backbone(value: Any) -> BackboneOptions:
    """The classifier's options; its name alone stands for them."""
    if isinstance(value, BackboneOptions):
        return value
    if isinstance(value, str | Path):
        return BackboneOptions(str(value))
    raise c.WrongValueError("BackboneOptions(…), or the backbone's name")


LARGEST_SEED = 2**63 - 1

SHARED_CHECKS: dict[str, c.Check] = {
    "backbone": _backbone,
    "engine": c.instance_of(EngineOptions),
    "pictures": c.instance_of(PictureOptions),
    "overlays": c.instance_of(OverlayOptions),
    "seed": c.whole(0, LARGEST_SEED),
    "align": c.flag,
    **dict.fromkeys(("resume", "overwrite", "strict"), c.flag),
    **dict.fromkeys(("out", "report", "figure"), c.optional(c.path)),
}
"""What fields of one name may hold in the options of several functions."""

METHOD_CHECKS: dict[str, c.Check] = {
    "contrast": c.optional(c.text),
    "layers": c.names,
    "fuse": c.optional(c.choice("max", "mean", "product")),
}
"""What fields about methods may hold where methods that need no training are chosen."""
