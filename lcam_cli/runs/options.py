"""Options that several runs share. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lcam_cli.errors import LcamError

if TYPE_CHECKING:
    from lcam_cli.images.preprocess import Fit
    from lcam_cli.maps.overlay_writer import OverlayFormat


@dataclass(frozen=True)
class BackboneOptions:
    """The classifier, and how pictures become its input; None leaves a value to what is loaded.

    Attributes:
        backbone: torchvision's name, ``timm/NAME``, ``FILE.pt2``, ``package.module:function`` or
            ``file.py:function``.
        weights: ``DEFAULT``, ``none``, or a file (``FILE#KEY`` for one of several state dicts).
        layer: The layer whose feature maps are weighed.
        classes: A file with the classes' names, one a line.
        image_size: Side of the network's input, in pixels.
        resize: Shorter side before the crop, in pixels.
        mean: Mean of the colours (R, G, B), in 0-1.
        std: Spread of the colours (R, G, B), in 0-1.
        fit: ``"crop"`` or ``"squash"``.
        grid: ``"PxQ"``, rows and columns of a transformer's patches.
        activation: ``"softmax"``, ``"sigmoid"`` or ``"none"``.
        output: Which of the network's outputs are the logits.
    """

    backbone: str | None = None
    weights: str | None = None
    layer: str | None = None
    classes: Path | None = None
    image_size: int | None = None
    resize: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    fit: Fit | None = None
    grid: str | None = None
    activation: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class EngineOptions:
    """Where and how the network runs.

    Attributes:
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        batch_size: Pictures in a batch; None finds one.
        workers: Processes that read pictures; None for one a core.
        max_pixels: A picture with more is refused; None for the library's own limit.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int | None = None

    def for_measures(self) -> EngineOptions:
        """Return what measures run with: they are defined in fp32, which auto does not trade."""
        return replace(self, precision="fp32" if self.precision == "auto" else self.precision)


@dataclass(frozen=True)
class PictureOptions:
    """Which pictures are taken, and what happens with those that cannot be read.

    Attributes:
        max_images: Take so many, by the seed; None for all.
        strict: Stop at the first picture that cannot be read.
        listed: Gives the paths that ``"-"`` among the inputs stands for; called once, by the first
            rank.
        run_commands: Whether an input ``"pipe:…"`` is a command for the shell, which prints a tar.
            Only for inputs that a person has typed.
    """

    max_images: int | None = None
    strict: bool = False
    listed: Callable[[], Iterable[str]] = tuple
    run_commands: bool = False


@dataclass(frozen=True)
class OverlayOptions:
    """The overlays: pictures with their maps drawn over them.

    Attributes:
        folder: Where they go; None for none beside an HDF5 file, and for ``DIR/overlays`` beside a
            folder of PNGs.
        picture_format: ``"png"``, ``"jpg"`` or ``"webp"``.
        colormap: Any name matplotlib knows.
        alpha: Their strength where the map is 1, in 0-1.
        caption: Whether they show class name and score.
    """

    folder: Path | None = None
    picture_format: OverlayFormat = "png"
    colormap: str = "inferno"
    alpha: float = 0.8
    caption: bool = True


def check_nus(nus: Iterable[float]) -> None:
    """Refuse percentages ν that there are not.

    Raises:
        LcamError: One is not in (0, 100].
    """
    for nu in nus:
        if not 0 < nu <= 100:
            raise LcamError(f"ν = {nu:g} is not above 0 and at most 100", "give percents, e.g. 15")
