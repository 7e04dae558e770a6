"""The demo's images: one object on a textured ground, among litter, lit and grainy like a photo.

Everything comes from a seeded generator, so the same seed gives the same images, and each
image comes with the true mask of its object. Place, size, colours, light and ground are drawn
independently of the class, with one exception that is meant:

**The planted shortcut.** A boat always lies on water, and nothing else ever does. A classifier
trained on such images learns the water rather than the boat; its maps for this class light up on
the ground, which is how one finds out. ``make_picture(..., ground=...)`` breaks the rule on
purpose, to test for the shortcut.
"""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lcam_cli.demo.shapes import SHAPES, Patch, draw_litter
from lcam_cli.demo.textures import GROUNDS, WATER, Array, Texture, fractal

CLASSES: tuple[str, ...] = tuple(SHAPES)
"""The classes, in the classifier's order (which is alphabetical)."""

SHORTCUT_CLASS = "boat"
SHORTCUT_GROUND = "water"

# One seed for each use, so that no image is ever seen twice.
CLASSIFIER_SEED = 1
TRAIN_SEED = 2
PHOTOS_SEED = 3
MISPLACED_SEED = 4

SIZE = (384, 288)
"""Width and height in pixels."""

VIEW = 256 / 288
"""Side of the classifier's square view (resize to 144, centre crop 128) over the shorter side."""

_OVERSAMPLING = 2
_AREA = (0.045, 0.13)  # share of the image that the object covers
_TEXTURES: dict[str, Texture] = {**GROUNDS, SHORTCUT_GROUND: WATER}

Colour = tuple[float, float, float]
Mask = NDArray[np.bool_]


class Light(NamedTuple):
    """Where an image's light comes from: a unit vector in the image plane, x right and y down."""

    x: float
    y: float


class WrittenPicture(NamedTuple):
    """One image on disk.

    Attributes:
        path: The JPEG.
        class_index: Index in ``CLASSES``.
        mask_path: The 1-bit PNG of its object, at the image's size; None if not asked for.
    """

    path: Path
    class_index: int
    mask_path: Path | None


def write_pictures(
    folder: Path, *, per_class: int, seed: int, masks: Path | None = None
) -> list[WrittenPicture]:
    """Write ``per_class`` images of every class as ``folder/<class>/<nn>.jpg``.

    Args:
        folder: Made if missing.
        per_class: Images a class.
        seed: ``TRAIN_SEED``, ``PHOTOS_SEED`` or another.
        masks: Where the objects' masks go, as ``masks/<class>/<nn>.png``; None writes none.

    Returns:
        What was written, class by class.
    """
    written = []
    for class_index, name in enumerate(CLASSES):
        for target in (folder, masks):
            if target is not None:
                (target / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            picture, mask = numbered_picture(class_index, number, seed)
            path = folder / name / f"{number:02d}.jpg"
            picture.save(path, quality=92)
            mask_path = None
            if masks is not None:
                mask_path = masks / name / f"{number:02d}.png"
                Image.fromarray(mask).save(mask_path)
            written.append(WrittenPicture(path, class_index, mask_path))
    return written


def write_misplaced(folder: Path, *, ashore: int, afloat: int) -> None:
    """Write images that break the shortcut: boats on other grounds, everything else on water.

    Args:
        folder: Made if missing; the images are ``folder/<class>/<nn>.jpg``.
        ashore: Boats without water.
        afloat: Images of each other class, on water.
    """
    grounds = list(GROUNDS)
    for class_index, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        is_boat = name == SHORTCUT_CLASS
        for number in range(ashore if is_boat else afloat):
            ground = grounds[number % len(grounds)] if is_boat else SHORTCUT_GROUND
            picture, _ = numbered_picture(class_index, number, MISPLACED_SEED, ground=ground)
            picture.save(folder / name / f"{number:02d}.jpg", quality=92)


def numbered_picture(
    class_index: int | None, number: int, seed: int, *, ground: str | None = None
) -> tuple[Image.Image, Mask]:
    """Make image ``number`` of a class, the same whichever others are made; see make_picture."""
    stream = len(CLASSES) if class_index is None else class_index
    rng = np.random.default_rng([seed, stream, number])
    return make_picture(class_index, rng, ground=ground)


def make_picture(
    class_index: int | None, rng: Generator, *, ground: str | None = None
) -> tuple[Image.Image, Mask]:
    """Make one image and the mask of its object.

    The whole object lies inside the classifier's centre-crop view.

    Args:
        class_index: Index in ``CLASSES``; None leaves the object out.
        rng: The source of all randomness.
        ground: ``"water"`` or a name in ``GROUNDS``; by default water for a boat, and any of
            ``GROUNDS`` for the others.

    Returns:
        The RGB image, of size ``SIZE``, and a (288, 384) mask, true on the object.
    """
    width, height = SIZE
    if ground is None:
        afloat = class_index is not None and CLASSES[class_index] == SHORTCUT_CLASS
        ground = SHORTCUT_GROUND if afloat else str(rng.choice(list(GROUNDS)))
    turn = rng.uniform(0, 2 * np.pi)
    light = Light(float(np.cos(turn)), float(np.sin(turn)))
    canvas = _softened(_TEXTURES[ground](rng, width, height), rng.uniform(0.4, 1.1))
    brightness = float(canvas.mean())

    for _ in range(int(rng.integers(2, 7))):
        radius = rng.uniform(7, 15)
        place = (rng.uniform(0, width), rng.uniform(0, height))
        litter = _turned(draw_litter(rng), rng.uniform(0, 360))
        _place(canvas, litter, place, radius, 0.3, _two_colours(rng, brightness), light, rng)

    mask = np.zeros((height, width), bool)
    if class_index is not None:
        shape = SHAPES[CLASSES[class_index]]
        patches = _turned(shape.draw(rng), rng.uniform(-shape.tilt, shape.tilt))
        radius = _radius_for_area(patches, rng.uniform(*_AREA) * width * height)
        place = _place_in_view(patches, radius, rng)
        colours = _two_colours(rng, brightness)
        alpha = _place(canvas, patches, place, radius, shape.roundness, colours, light, rng)
        mask = alpha > 0.5
    return _developed(canvas, light, rng), mask


# --- where ----------------------------------------------------------------------------------------


def _turned(patches: list[Patch], degrees: float) -> list[Patch]:
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return [Patch(points @ rotation, tone) for points, tone in patches]


def _radius_for_area(patches: list[Patch], area: float) -> float:
    """Pixels per unit at which the object covers ``area`` pixels and still fits into the view."""
    silhouette, _ = _rasterised(patches, 40.0, (50, 50), 100, 100)
    covered = float(silhouette.mean()) * 100 * 100 / 40.0**2
    left, top, right, bottom = _bounds(patches)
    largest = 0.94 * VIEW * min(SIZE) / max(right - left, bottom - top)
    return float(min(np.sqrt(area / covered), largest))


def _place_in_view(patches: list[Patch], radius: float, rng: Generator) -> tuple[float, float]:
    """A random centre that keeps the object inside the view."""
    left, top, right, bottom = _bounds(patches) * radius
    half = VIEW * min(SIZE) / 2 - 2  # two pixels to spare for the soft edge
    x = SIZE[0] / 2 + rng.uniform(-half - left, half - right)
    y = SIZE[1] / 2 + rng.uniform(-half - top, half - bottom)
    return x, y


def _bounds(patches: list[Patch]) -> NDArray[np.float64]:
    points = np.concatenate([p.points for p in patches])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


# --- how it looks ---------------------------------------------------------------------------------


def _two_colours(rng: Generator, brightness: float) -> tuple[Colour, Colour]:
    """Two different colours that stand out from a ground of the given mean brightness."""
    hue, saturation = rng.uniform(0, 1), rng.uniform(0.35, 0.9)
    bright = rng.uniform(0.75, 1.0) if brightness < 0.5 else rng.uniform(0.25, 0.85)
    first = colorsys.hsv_to_rgb(hue, saturation, bright)
    other = 1.3 - bright if rng.random() < 0.5 else min(1.0, bright + 0.1)
    second = colorsys.hsv_to_rgb((hue + rng.uniform(0.25, 0.75)) % 1, rng.uniform(0.1, 0.9), other)
    return first, second


def _place(
    canvas: Array,
    patches: list[Patch],
    place: tuple[float, float],
    radius: float,
    roundness: float,
    colours: tuple[Colour, Colour],
    light: Light,
    rng: Generator,
) -> Array:
    """Paint an object and its shadow onto ``canvas`` in place; return its (H, W) coverage."""
    height, width = canvas.shape[:2]
    # Only this window changes: the object, and as much again for its shadow.
    reach = int(1.6 * radius) + 8
    x0, x1 = max(0, int(place[0]) - reach), min(width, int(place[0]) + reach)
    y0, y1 = max(0, int(place[1]) - reach), min(height, int(place[1]) + reach)
    centre = (place[0] - x0, place[1] - y0)
    alpha, tone = _rasterised(patches, radius, centre, x1 - x0, y1 - y0)
    window = canvas[y0:y1, x0:x1]

    thickness = rng.uniform(0.08, 0.2) * radius
    behind = (centre[0] - light.x * thickness, centre[1] - light.y * thickness)
    cast, _ = _rasterised(patches, radius, behind, x1 - x0, y1 - y0)
    shadow = _softened(cast, 0.5 * thickness + 1)
    window *= 1 - rng.uniform(0.45, 0.7) * shadow[..., None]

    # The blurred silhouette is a cushion; its slopes towards the light are bright.
    cushion = _softened(alpha, max(1.0, roundness * radius / 2))
    slope_y, slope_x = np.gradient(cushion * roundness * radius)
    facing = -(slope_x * light.x + slope_y * light.y)
    grain = fractal(rng, x1 - x0, y1 - y0, coarsest=6, fall=0.7)[..., None] - 0.5
    first, second = (np.array(c, np.float32) for c in colours)
    paint = first * (1 + np.minimum(tone, 0))[..., None]
    paint = paint + np.maximum(tone, 0)[..., None] * (second - paint)
    paint = paint * (0.92 + 0.55 * facing[..., None] + 0.25 * grain)
    gloss = rng.uniform(0.1, 0.5) * np.clip(facing * 1.6 - 0.25, 0, 1) ** 2
    paint = np.clip(paint + gloss[..., None], 0, 1)
    window += alpha[..., None] * (paint - window)
    coverage = np.zeros((height, width), np.float32)
    coverage[y0:y1, x0:x1] = alpha
    return coverage


def _rasterised(
    patches: list[Patch], radius: float, centre: tuple[float, float], width: int, height: int
) -> tuple[Array, Array]:
    """Draw patches with smooth edges: coverage in [0, 1] and tone, each (height, width)."""
    fine = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    silhouette, tones = Image.new("L", fine), Image.new("L", fine, 127)
    on_silhouette, on_tones = ImageDraw.Draw(silhouette), ImageDraw.Draw(tones)
    for points, tone in patches:
        pixels = (points * radius + np.array(centre)) * _OVERSAMPLING
        corners = [(float(x), float(y)) for x, y in pixels]
        on_silhouette.polygon(corners, fill=0 if tone is None else 255)
        if tone is not None:
            on_tones.polygon(corners, fill=round(127 * (1 + tone)))
    alpha = np.asarray(silhouette.reduce(_OVERSAMPLING), np.float32) / np.float32(255)
    tone_map = np.asarray(tones.reduce(_OVERSAMPLING), np.float32) / np.float32(127)
    return alpha, tone_map - np.float32(1)


def _softened(field: Array, sigma: float) -> Array:
    """Blur a (H, W) or (H, W, 3) field in [0, 1], to 8-bit accuracy."""
    picture = Image.fromarray((field * 255).astype(np.uint8))
    blurred = picture.filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(blurred, np.float32) / np.float32(255)


def _developed(canvas: Array, light: Light, rng: Generator) -> Image.Image:
    """What a camera adds: uneven light, vignette, white balance and grain. Uses up ``canvas``."""
    height, width = canvas.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    falloff = 1 + rng.uniform(0.05, 0.25) * (x * light.x + y * light.y)
    vignette = 1 - rng.uniform(0.1, 0.3) * (x**2 + y**2) / 2
    balance = rng.uniform(0.94, 1.06, 3).astype(np.float32)
    canvas *= (rng.uniform(1.1, 1.35) * falloff * vignette)[..., None] * balance
    canvas += rng.standard_normal((height, width, 1), np.float32) * rng.uniform(0.008, 0.025)
    return Image.fromarray((np.clip(canvas, 0, 1) * 255).astype(np.uint8))
