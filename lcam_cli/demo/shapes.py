"""The ten kinds of object in the demo's images, as outlines.

A shape is a list of patches painted one after the other, in a plane where the object fills about
the unit disc, x to the right and y down. No two objects of a class are alike: the number of teeth,
the width of a ring and so on are drawn at random, and never tell the class by colour.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Points = NDArray[np.float64]


class Patch(NamedTuple):
    """One filled polygon.

    Attributes:
        points: (N, 2) corners.
        tone: Colour: 0 is the object's first, 1 its second, -1 black, between them a mixture; None
            cuts a hole.
    """

    points: Points
    tone: float | None


class Shape(NamedTuple):
    """How objects of one class look.

    Attributes:
        draw: Makes one object's patches.
        roundness: Width of the rounded edge, in units of the object's radius.
        tilt: Largest rotation either way, in degrees.
    """

    draw: Callable[[Generator], list[Patch]]
    roundness: float
    tilt: float


def _disc(x: float, y: float, radius: float, corners: int = 48) -> Points:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def _box(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _ribbon(line: Points, width: NDArray[np.float64] | float) -> Points:
    """Thicken a line of (N, 2) points to a polygon of the given width at every point."""
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    half = np.broadcast_to(width, len(line))[:, None] / 2
    return np.concatenate([line + half * across, (line - half * across)[::-1]])


def _ball(rng: Generator) -> list[Patch]:
    """A beach ball: meridians seen from the side, every other gore in the second colour."""
    patches = [Patch(_disc(0, 0, 0.92), 0.0)]
    gores = int(rng.integers(5, 8))
    edges = np.sin(np.linspace(-np.pi / 2, np.pi / 2, gores + 1)) * 0.92
    height = np.linspace(-np.pi / 2, np.pi / 2, 24)
    for left, right in list(pairwise(edges))[::2]:
        side_a = np.stack([left * np.cos(height), 0.92 * np.sin(height)], axis=1)
        side_b = np.stack([right * np.cos(height), 0.92 * np.sin(height)], axis=1)
        patches.append(Patch(np.concatenate([side_a, side_b[::-1]]), 1.0))
    return patches


def _boat(rng: Generator) -> list[Patch]:
    """A sailing boat: hull, mast and two sails."""
    deck, mast = 0.38, rng.uniform(-0.12, 0.08)
    keel = np.linspace(0, 1, 16)
    hull_x = np.interp(keel, [0, 0.25, 0.8, 1], [-0.9, -0.6, 0.6, 0.95])
    hull_y = deck + 0.42 * np.sin(np.pi * keel) ** 0.6
    main = np.array([[mast + 0.08, -0.95], [mast + 0.08, deck - 0.1], [0.82, deck - 0.12]])
    jib = np.array([[mast - 0.06, -0.75], [mast - 0.06, deck - 0.1], [-0.72, deck - 0.1]])
    return [
        Patch(_box(mast - 0.04, -0.98, mast + 0.06, deck + 0.05), 0.5),
        Patch(np.stack([hull_x, hull_y], axis=1), 0.0),
        Patch(main, 1.0),
        Patch(jib, rng.uniform(0.6, 1.0)),
    ]


def _die(rng: Generator) -> list[Patch]:
    """A die seen from above one corner; the pips lie on the three visible faces."""
    right, down, up = (0.82, -0.45), (-0.82, -0.45), (0.0, 0.95)
    faces = [(right, down), (down, up), (right, up)]
    patches = []
    for (u, v), tone in zip(faces, (0.0, -0.28, -0.5), strict=True):
        # All faces meet at the corner nearest to the eye.
        patch = np.array([(0, 0), u, np.add(u, v), v], dtype=float)
        patches.append(Patch(patch, tone))
        for a, b in _pips(int(rng.integers(1, 7))):
            centre = a * np.array(u) + b * np.array(v)
            pip = _disc(0, 0, 0.115, 16)
            # A disc on the face is an ellipse in the image: the face's own axes shape it.
            onto_face = np.array([u, v])
            patches.append(Patch(centre + pip @ onto_face, 1.0))
    return patches


def _pips(number: int) -> list[tuple[float, float]]:
    low, middle, high = 0.25, 0.5, 0.75
    corners = [(low, high), (high, low), (low, low), (high, high), (low, middle), (high, middle)]
    even = number - number % 2
    return corners[:even] + ([(middle, middle)] if number % 2 else [])


def _gear(rng: Generator) -> list[Patch]:
    teeth = int(rng.integers(8, 13))
    root = rng.uniform(0.68, 0.76)
    # A tooth's corners: up the flank, along the top, down the flank; the root joins it to the next.
    place = np.arange(teeth)[:, None] + np.array([-0.28, -0.17, 0.17, 0.28])
    angle = place.ravel() * 2 * np.pi / teeth
    radius = np.tile([root, 0.97, 0.97, root], teeth)
    wheel = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    hub = rng.uniform(0.42, 0.5)
    return [
        Patch(wheel, 0.0),
        Patch(_disc(0, 0, hub), 0.7),
        Patch(_disc(0, 0, hub - rng.uniform(0.14, 0.2)), None),
    ]


def _heart(rng: Generator) -> list[Patch]:
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    width = rng.uniform(0.95, 1.1)
    x = width * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16 - 0.12
    outline = np.stack([x, y], axis=1) * 0.9
    return [Patch(outline, 0.0), Patch(outline * rng.uniform(0.5, 0.62), 0.45)]


def _key(rng: Generator) -> list[Patch]:
    bow, shaft = rng.uniform(0.34, 0.42), rng.uniform(0.15, 0.19)
    patches = [
        Patch(_box(-0.4, -shaft / 2, 0.98, shaft / 2), 0.0),
        Patch(_disc(-0.58, 0, bow), 0.0),
        Patch(_disc(-0.58, 0, bow * 0.5), None),
        Patch(_box(-0.2, -shaft * 0.85, -0.1, shaft * 0.85), 0.8),
    ]
    for x in np.linspace(0.5, 0.86, int(rng.integers(2, 4))):
        patches.append(Patch(_box(x, 0, x + 0.11, rng.uniform(0.3, 0.42)), 0.0))
    return patches


def _leaf(rng: Generator) -> list[Patch]:
    t = np.linspace(-0.85, 0.95, 40)
    width = rng.uniform(0.42, 0.55)
    profile = width * np.sin(np.pi * (t + 0.85) / 1.8) ** 0.8 * (1 - 0.25 * t)
    teeth = 1 + 0.08 * (np.arange(40) % 4 - 1.5) / 1.5
    side_a = np.stack([t, profile * teeth], axis=1)
    side_b = np.stack([t, -profile * teeth], axis=1)
    patches = [
        Patch(np.concatenate([side_a, side_b[::-1]]), 0.0),
        Patch(_ribbon(np.array([[-1.0, 0.05], [-0.5, 0], [0.9, 0]]), 0.06), 0.9),
    ]
    for x in np.linspace(-0.55, 0.55, 5):
        for side in (-1, 1):
            reach = 0.75 * float(np.interp(x + 0.25, t, profile))
            vein = np.array([[x, 0.0], [x + 0.28, side * reach]])
            patches.append(Patch(_ribbon(vein, 0.04), 0.9))
    return patches


def _ring(rng: Generator) -> list[Patch]:
    """A doughnut with its icing."""
    hole = rng.uniform(0.32, 0.45)
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    wave = 0.8 + 0.05 * np.sin(int(rng.integers(5, 9)) * angle + rng.uniform(0, 6))
    icing = wave[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    patches = [Patch(_disc(0, 0, 0.92), 0.0), Patch(icing, 1.0)]
    for turn in rng.uniform(0, 2 * np.pi, 12):
        radius = rng.uniform(hole + 0.1, 0.7)
        x, y = radius * np.cos(turn), radius * np.sin(turn)
        patches.append(Patch(_disc(x, y, 0.045, 8), 0.1))
    return [*patches, Patch(_disc(0, 0, hole), None)]


def _shell(rng: Generator) -> list[Patch]:
    """A snail shell: a logarithmic spiral that grows to the outer whorl."""
    turns = rng.uniform(2.3, 3.0)
    t = np.linspace(0.0, 1.0, 140)
    angle = turns * 2 * np.pi * t
    growth = np.exp(2.2 * (t - 1))
    line = (0.68 * growth)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    last = line[-1]
    mouth = last + np.array([0.02, 0.1])
    body = [Patch(_ribbon(line, 0.7 * growth), 0.0), Patch(_disc(0, 0, 0.3), 0.0)]
    body.append(Patch(_disc(float(mouth[0]), float(mouth[1]), 0.24, 24), 0.0))
    return [*body, Patch(_ribbon(line, 0.13 * growth + 0.02), 1.0)]


def _star(rng: Generator) -> list[Patch]:
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    inner = rng.uniform(0.4, 0.5)
    radius = np.where(np.arange(10) % 2 == 0, 1.0, inner)
    outline = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [Patch(outline, 0.0), Patch(outline * rng.uniform(0.5, 0.6), 0.5)]


SHAPES: dict[str, Shape] = {
    "ball": Shape(_ball, roundness=0.5, tilt=180),
    "boat": Shape(_boat, roundness=0.07, tilt=20),
    "die": Shape(_die, roundness=0.07, tilt=30),
    "gear": Shape(_gear, roundness=0.1, tilt=180),
    "heart": Shape(_heart, roundness=0.3, tilt=40),
    "key": Shape(_key, roundness=0.1, tilt=180),
    "leaf": Shape(_leaf, roundness=0.1, tilt=180),
    "ring": Shape(_ring, roundness=0.2, tilt=180),
    "shell": Shape(_shell, roundness=0.15, tilt=180),
    "star": Shape(_star, roundness=0.15, tilt=180),
}


def draw_litter(rng: Generator) -> list[Patch]:
    """Make a small thing that is no object of any class: a bead, a chip, a stick or a shard."""
    kind = int(rng.integers(4))
    if kind == 0:
        return [Patch(_disc(0, 0, 0.8), 0.0)]
    if kind == 1:
        return [Patch(_box(-0.8, -0.6, 0.8, 0.6), 0.0)]
    if kind == 2:
        return [Patch(_box(-1.0, -0.16, 1.0, 0.16), 0.0)]
    corners = np.sort(rng.uniform(0, 2 * np.pi, 3)) + np.array([0.0, 0.4, 0.8])
    return [Patch(np.stack([np.cos(corners), np.sin(corners)], axis=1), 0.0)]
