"""The grounds the demo's objects lie on: (H, W, 3) float32 colour in [0, 1], from a generator.

Each texture is a pattern of values in [0, 1] coloured by a ramp from dark to light. ``WATER`` is
kept apart from ``GROUNDS``: it is the planted shortcut (see ``pictures``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Ramp = tuple[tuple[int, int, int], ...]
Texture = Callable[[Generator, int, int], Array]

# Dark, middle, light; RGB. Blues are among them, so that blue alone does not mean water.
_RAMPS = [
    ((58, 40, 28), (139, 98, 64), (214, 178, 132)),  # oak
    ((40, 26, 22), (104, 62, 44), (172, 116, 82)),  # walnut
    ((52, 60, 40), (110, 124, 78), (188, 196, 142)),  # moss
    ((24, 44, 30), (62, 98, 60), (142, 172, 112)),  # lawn
    ((70, 66, 62), (140, 134, 126), (212, 206, 196)),  # stone
    ((38, 42, 50), (92, 100, 112), (168, 176, 186)),  # slate
    ((120, 92, 60), (194, 160, 112), (240, 216, 172)),  # sand
    ((90, 36, 30), (164, 84, 62), (222, 152, 118)),  # clay
    ((60, 34, 66), (126, 88, 138), (204, 172, 208)),  # heather
    ((22, 38, 70), (62, 92, 142), (152, 180, 216)),  # denim
    ((20, 58, 62), (60, 122, 122), (150, 204, 194)),  # verdigris
    ((134, 120, 116), (204, 190, 182), (246, 238, 230)),  # linen
    ((110, 52, 70), (190, 118, 130), (240, 196, 196)),  # rose
]
_WATER_RAMPS = [
    ((8, 40, 76), (24, 104, 150), (196, 232, 240)),
    ((6, 62, 78), (26, 134, 144), (204, 244, 232)),
    ((14, 34, 62), (44, 86, 122), (206, 222, 234)),
]


def fractal(rng: Generator, width: int, height: int, *, coarsest: int, fall: float = 0.5) -> Array:
    """Return 1/f noise, (height, width) in [0, 1].

    Args:
        rng: The source of all randomness.
        width: In pixels.
        height: In pixels.
        coarsest: Cells along the shorter side of the coarsest octave.
        fall: How much weaker each octave is than the one before, which is twice as coarse.
    """
    shorter, strength = min(width, height), 1.0
    total = np.zeros((2, 2), np.float32)
    cells = coarsest
    while True:
        columns, rows = (max(2, min(n, n * cells // shorter)) for n in (width, height))
        noise = rng.standard_normal((rows, columns), np.float32)
        total = resized(total, columns, rows) + strength * noise
        if 2 * cells >= shorter:  # finer is the film grain's business
            return stretched(resized(total, width, height))
        cells, strength = 2 * cells, strength * fall


def resized(field: Array, width: int, height: int) -> Array:
    """Resample a 2-d field, bicubic."""
    picture = Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def stretched(field: Array) -> Array:
    """Map the bulk of a field to [0, 1]: mean to 0.5, 2.5 standard deviations to the ends."""
    spread = max(float(field.std()), 1e-6)
    level: Array = 0.5 + (field - field.mean()) / (5 * spread)
    return level.clip(0, 1)


def _ramped(pattern: Array, ramp: Ramp) -> Array:
    """Colour a pattern in [0, 1] by a 256-step table between the ramp's stops."""
    stops, levels = np.linspace(0, 255, len(ramp)), np.arange(256)
    table = np.stack([np.interp(levels, stops, [c[k] / 255 for c in ramp]) for k in range(3)], 1)
    return table.astype(np.float32)[(pattern * 255).astype(np.uint8)]


def _some_ramp(rng: Generator) -> Ramp:
    return _RAMPS[int(rng.integers(len(_RAMPS)))]


def _grid(width: int, height: int, turn: float) -> tuple[Array, Array]:
    """Coordinates in pixels along two axes turned by ``turn`` radians, each (H, W)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return cos * x + sin * y, -sin * x + cos * y


def _plaster(rng: Generator, width: int, height: int) -> Array:
    noise = fractal(rng, width, height, coarsest=3, fall=rng.uniform(0.55, 0.8))
    return _ramped(noise, _some_ramp(rng))


def _marble(rng: Generator, width: int, height: int) -> Array:
    warp = fractal(rng, width, height, coarsest=2, fall=0.55)
    veins = 1 - np.abs(np.sin(rng.uniform(7, 12) * warp)) ** 0.5
    cloud = fractal(rng, width, height, coarsest=3)
    return _ramped(stretched(0.7 * cloud - 0.8 * veins), _some_ramp(rng))


def _wood(rng: Generator, width: int, height: int) -> Array:
    if rng.random() < 0.5:
        return _wood_across(rng, height, width).transpose(1, 0, 2)
    return _wood_across(rng, width, height)


def _wood_across(rng: Generator, width: int, height: int) -> Array:
    tall = int(height / rng.uniform(3, 5)) + 1
    pattern = np.empty((height, width), np.float32)
    for top in range(0, height, tall):
        # Noise made narrow and drawn out along the board; its level lines are the growth rings.
        streaks = resized(fractal(rng, width // 10, tall, coarsest=3, fall=0.6), width, tall)
        rings = np.sin(rng.uniform(25, 40) * streaks)
        board = rng.uniform(0.4, 0.7) + 0.1 * rings + 0.5 * (streaks - 0.5)
        board[:2] *= 0.35  # the gap between boards
        pattern[top : top + tall] = board[: height - top]
    fibres = resized(rng.standard_normal((height, width // 12), np.float32), width, height)
    return _ramped(np.clip(pattern + 0.06 * fibres, 0, 1), _some_ramp(rng))


def _grass(rng: Generator, width: int, height: int) -> Array:
    # Noise drawn out along one direction looks like blades, fibres or fur.
    blades = np.zeros((height, width), np.float32)
    noise = rng.standard_normal((height, width), np.float32)
    for turn in rng.uniform(0.9, 2.2, 3):
        dx, dy = np.cos(turn), np.sin(turn)
        for step in range(1, 9):
            blades += np.roll(noise, (round(step * dy * 1.3), round(step * dx * 1.3)), (0, 1))
    lumps = fractal(rng, width, height, coarsest=4)
    return _ramped(np.clip(0.75 * stretched(blades) + 0.5 * lumps - 0.12, 0, 1), _some_ramp(rng))


def _pebbles(rng: Generator, width: int, height: int) -> Array:
    """Cells of a jittered grid (Worley noise): each point belongs to the nearest centre."""
    pitch = rng.uniform(22, 40)
    columns, rows = int(width / pitch) + 4, int(height / pitch) + 4
    centres = rng.uniform(0.1, 0.9, (rows, columns, 2)).astype(np.float32)
    tones = rng.uniform(0.15, 1.0, (rows, columns)).astype(np.float32)
    # At half resolution, which is a quarter of the work and does not show.
    y, x = np.mgrid[0:height:2, 0:width:2].astype(np.float32) / np.float32(pitch)
    row, column = y.astype(int), x.astype(int)
    nearest = np.full(y.shape, 9, np.float32)
    second, tone = nearest.copy(), np.zeros(y.shape, np.float32)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            to_row, to_column = row + dr, column + dc  # -1 wraps around to a spare row
            centre = centres[to_row, to_column]
            away = np.hypot(to_row + centre[..., 0] - y, to_column + centre[..., 1] - x)
            closer = away < nearest
            second = np.where(closer, nearest, np.minimum(second, away))
            tone = np.where(closer, tones[to_row, to_column], tone)
            nearest = np.where(closer, away, nearest)
    dome = np.clip((second - nearest) * 2.5, 0, 1) ** 0.6
    stones = resized((dome * (0.25 + 0.65 * tone)).astype(np.float32), width, height)
    grain = fractal(rng, width, height, coarsest=12, fall=0.8) - 0.5
    return _ramped(np.clip(stones + 0.25 * grain, 0, 1), _some_ramp(rng))


def _tiles(rng: Generator, width: int, height: int) -> Array:
    along, across = _grid(width, height, rng.uniform(-0.4, 0.4))
    tall = rng.uniform(26, 44)
    wide = tall * int(rng.integers(1, 3))
    row = np.floor(across / tall)
    shifted = along / wide + 0.5 * (row % 2) * (wide > tall)
    column = np.floor(shifted)
    tone = np.sin(row * 12.9898 + column * 78.233) * 43758.5453 % 1  # a hash, constant on a tile
    edge_y = np.abs(across / tall % 1 - 0.5) * tall
    edge_x = np.abs(shifted % 1 - 0.5) * wide
    from_edge = np.minimum(tall / 2 - edge_y, wide / 2 - edge_x)
    joint = np.clip((from_edge - 1.2) / 2, 0, 1)
    grain = fractal(rng, width, height, coarsest=8, fall=0.75)
    return _ramped(np.clip(joint * (0.35 + 0.3 * tone) + 0.4 * grain - 0.05, 0, 1), _some_ramp(rng))


def _cloth(rng: Generator, width: int, height: int) -> Array:
    along, across = _grid(width, height, rng.uniform(-0.6, 0.6))
    folds = fractal(rng, width, height, coarsest=2, fall=0.3)
    thread = rng.uniform(0.9, 1.3)
    weave = np.sin(thread * along + 6 * folds) * np.sin(thread * across + 6 * folds)
    wide = rng.uniform(30, 60)
    checks = (np.sin(np.pi * along / wide) > 0.2).astype(np.float32)
    checks += np.sin(np.pi * across / wide) > 0.2
    pattern = 0.1 + 0.55 * folds + 0.12 * weave + (0.13 if rng.random() < 0.5 else 0.0) * checks
    return _ramped(np.clip(pattern, 0, 1), _some_ramp(rng))


def _water(rng: Generator, width: int, height: int) -> Array:
    """Ripples with glints, wider apart towards the viewer."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    depth = np.sqrt(0.35 + y / height)
    warp = fractal(rng, width, height, coarsest=3, fall=0.45)
    drift = fractal(rng, width, height, coarsest=4, fall=0.5)
    slant = rng.uniform(-0.12, 0.12)
    phase = 2 * np.pi * rng.uniform(15, 21) * depth + slant * x / depth * 0.3
    swell = np.sin(phase + 9 * warp) + 0.7 * np.sin(1.7 * phase + 11 * drift + 0.05 * x)
    glints = np.clip(swell - 0.75, 0, 1) ** 1.5
    pattern = 0.2 + 0.17 * swell + 0.25 * (drift - 0.5) + 0.55 * glints
    return _ramped(np.clip(pattern, 0, 1), _WATER_RAMPS[int(rng.integers(len(_WATER_RAMPS)))])


GROUNDS: dict[str, Texture] = {
    "cloth": _cloth,
    "grass": _grass,
    "marble": _marble,
    "pebbles": _pebbles,
    "plaster": _plaster,
    "tiles": _tiles,
    "wood": _wood,
}
WATER: Texture = _water
