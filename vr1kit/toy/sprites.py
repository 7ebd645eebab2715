"""The things that scenes are made of: forty small drawings, each a function of a unit square.

A sprite draws itself on a square tile of side `s` pixels in three tones of one hue (`base`, `dark`, `light`), so that a
rendering style can repaint all of them (a blueprint is white on nothing). Only Pillow is used; boxes are measured afterwards
from the pixels that were really drawn (see `vr1kit.scenes`), never from these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import ImageDraw

Colour = tuple[int, int, int, int]


@dataclass(frozen=True)
class Pen:
    """Draws in unit coordinates (0..1 across the tile) on a square tile of `s` pixels."""

    draw: ImageDraw.ImageDraw
    s: int
    base: Colour
    dark: Colour
    light: Colour
    outline: Colour | None = None  # set: draw outlines only, in this colour (blueprint and neon styles)

    @property
    def line(self) -> int:
        return max(2, round(self.s * 0.035))

    def _paint(self, fill: Colour | None) -> dict:
        if self.outline is not None:
            return {"outline": self.outline, "width": self.line}
        return {"fill": fill or self.base}

    def poly(self, points: Sequence[tuple[float, float]], fill: Colour | None = None) -> None:
        self.draw.polygon([(x * self.s, y * self.s) for x, y in points], **self._paint(fill))

    def oval(self, x1: float, y1: float, x2: float, y2: float, fill: Colour | None = None) -> None:
        self.draw.ellipse((x1 * self.s, y1 * self.s, x2 * self.s, y2 * self.s), **self._paint(fill))

    def rect(self, x1: float, y1: float, x2: float, y2: float, fill: Colour | None = None, r: float = 0.0) -> None:
        box = (x1 * self.s, y1 * self.s, x2 * self.s, y2 * self.s)
        if r:
            self.draw.rounded_rectangle(box, r * self.s, **self._paint(fill))
        else:
            self.draw.rectangle(box, **self._paint(fill))

    def stroke(self, points: Sequence[tuple[float, float]], width: float, fill: Colour | None = None) -> None:
        colour = self.outline or fill or self.base
        width_px = self.line if self.outline else max(2, round(width * self.s))
        self.draw.line([(x * self.s, y * self.s) for x, y in points], fill=colour, width=width_px, joint="curve")

    def arc(self, x1: float, y1: float, x2: float, y2: float, a: float, b: float, width: float, fill: Colour) -> None:
        box = (x1 * self.s, y1 * self.s, x2 * self.s, y2 * self.s)
        width_px = self.line if self.outline else max(2, round(width * self.s))
        self.draw.arc(box, a, b, fill=self.outline or fill, width=width_px)


def _ngon(n: int, r1: float, r2: float, turn: float = -90.0) -> list[tuple[float, float]]:
    """A star polygon with n points, radii r1 and r2 around the centre of the tile."""
    return [
        (0.5 + r * math.cos(a), 0.5 + r * math.sin(a))
        for i in range(2 * n)
        for r, a in [((r1, r2)[i % 2], math.radians(turn + 180 * i / n))]
    ]


# --- the toy box: in-domain ------------------------------------------------------------------------------------------
def ball(p: Pen) -> None:
    p.oval(0.04, 0.04, 0.96, 0.96)
    p.arc(0.04, 0.2, 0.96, 1.3, 215, 325, 0.07, p.dark)
    p.oval(0.24, 0.16, 0.44, 0.34, p.light)


def star(p: Pen) -> None:
    p.poly(_ngon(5, 0.5, 0.21))
    if p.outline is None:
        p.poly(_ngon(5, 0.26, 0.11), p.light)


def heart(p: Pen) -> None:
    curve = [(t * 2 * math.pi / 28) for t in range(28)]
    p.poly(
        [
            (
                0.5 + 0.47 * math.sin(t) ** 3,
                0.46 - (0.40 * math.cos(t) - 0.155 * math.cos(2 * t) - 0.06 * math.cos(3 * t) - 0.03 * math.cos(4 * t)),
            )
            for t in curve
        ]
    )
    p.oval(0.2, 0.2, 0.36, 0.34, p.light)


def ring(p: Pen) -> None:
    p.arc(0.04, 0.04, 0.96, 0.96, 0, 360, 0.2, p.base)
    p.arc(0.04, 0.04, 0.96, 0.96, 190, 260, 0.07, p.light)
    if p.outline is not None:
        p.oval(0.24, 0.24, 0.76, 0.76)


def cross(p: Pen) -> None:
    a, b = 0.34, 0.66
    p.poly(
        [(a, 0.04), (b, 0.04), (b, a), (0.96, a), (0.96, b), (b, b), (b, 0.96), (a, 0.96), (a, b), (0.04, b), (0.04, a), (a, a)]
    )
    if p.outline is None:
        p.rect(0.42, 0.42, 0.58, 0.58, p.light)


def kite(p: Pen) -> None:
    p.poly([(0.5, 0.02), (0.88, 0.38), (0.5, 0.84), (0.12, 0.38)])
    if p.outline is None:
        p.poly([(0.5, 0.02), (0.88, 0.38), (0.5, 0.38)], p.light)
        p.poly([(0.12, 0.38), (0.5, 0.38), (0.5, 0.84)], p.dark)
    p.stroke([(0.5, 0.84), (0.58, 0.9), (0.46, 0.98)], 0.05, p.dark)


def moon(p: Pen) -> None:
    outer = [(0.55 + 0.45 * math.cos(math.radians(a)), 0.5 + 0.47 * math.sin(math.radians(a))) for a in range(60, 301, 12)]
    inner = [(0.76 + 0.36 * math.cos(math.radians(a)), 0.5 + 0.38 * math.sin(math.radians(a))) for a in range(270, 89, -12)]
    p.poly(outer + inner)
    p.oval(0.2, 0.5, 0.3, 0.6, p.light)


def leaf(p: Pen) -> None:
    left = [(0.5 - 0.34 * math.sin(math.pi * t), 0.04 + 0.8 * t) for t in (i / 10 for i in range(11))]
    right = [(0.5 + 0.34 * math.sin(math.pi * t), 0.04 + 0.8 * t) for t in (i / 10 for i in range(10, -1, -1))]
    p.poly(left + right)
    p.stroke([(0.5, 0.12), (0.5, 0.98)], 0.06, p.dark)
    for y in (0.36, 0.56):
        p.stroke([(0.3, y - 0.1), (0.5, y), (0.7, y - 0.1)], 0.04, p.dark)


def house(p: Pen) -> None:
    p.rect(0.14, 0.44, 0.86, 0.96, p.light)
    p.poly([(0.5, 0.03), (0.97, 0.48), (0.03, 0.48)], p.base)
    p.rect(0.42, 0.64, 0.6, 0.96, p.dark)


def mug(p: Pen) -> None:
    p.arc(0.56, 0.26, 0.98, 0.72, 0, 360, 0.09, p.dark)
    p.rect(0.06, 0.1, 0.74, 0.92, r=0.08)
    p.rect(0.06, 0.3, 0.74, 0.44, p.light)


def tree(p: Pen) -> None:
    p.rect(0.42, 0.7, 0.58, 0.98, p.dark)
    for top, bottom, half in ((0.38, 0.8, 0.42), (0.2, 0.58, 0.34), (0.02, 0.36, 0.25)):
        p.poly([(0.5, top), (0.5 + half, bottom), (0.5 - half, bottom)], p.base if top != 0.2 else p.light)


def bolt(p: Pen) -> None:
    p.poly([(0.6, 0.02), (0.14, 0.58), (0.46, 0.58), (0.36, 0.98), (0.86, 0.38), (0.54, 0.38)])
    p.stroke([(0.55, 0.14), (0.28, 0.48)], 0.05, p.light)


# --- the thirteen shifted domains ------------------------------------------------------------------------------------
def fish(p: Pen) -> None:
    p.poly([(0.66, 0.5), (0.98, 0.2), (0.92, 0.5), (0.98, 0.8)], p.dark)
    p.oval(0.02, 0.2, 0.78, 0.8)
    p.poly([(0.36, 0.24), (0.62, 0.06), (0.6, 0.3)], p.dark)
    p.oval(0.14, 0.38, 0.26, 0.5, p.light)


def jellyfish(p: Pen) -> None:
    for i, x in enumerate((0.22, 0.4, 0.6, 0.78)):
        p.stroke([(x, 0.5), (x + 0.06, 0.66), (x - 0.05, 0.8), (x + 0.03, 0.95 - 0.05 * (i % 2))], 0.06, p.light)
    p.draw.pieslice((0.06 * p.s, 0.04 * p.s, 0.94 * p.s, 1.0 * p.s), 180, 360, **p._paint(p.base))


def starfish(p: Pen) -> None:
    p.poly(_ngon(5, 0.5, 0.15, -80))
    for x, y, _ in zip((0.5, 0.4, 0.6, 0.48), (0.34, 0.54, 0.52, 0.64), range(4), strict=True):
        p.oval(x - 0.03, y - 0.03, x + 0.03, y + 0.03, p.light)


def boat(p: Pen) -> None:
    p.stroke([(0.5, 0.04), (0.5, 0.66)], 0.05, p.dark)
    p.poly([(0.54, 0.06), (0.88, 0.58), (0.54, 0.58)], p.light)
    p.poly([(0.46, 0.16), (0.2, 0.58), (0.46, 0.58)], p.light)
    p.poly([(0.03, 0.66), (0.97, 0.66), (0.8, 0.95), (0.2, 0.95)])


def buoy(p: Pen) -> None:
    p.rect(0.44, 0.02, 0.56, 0.3, p.dark)
    p.poly([(0.36, 0.26), (0.64, 0.26), (0.8, 0.7), (0.2, 0.7)])
    p.oval(0.08, 0.6, 0.92, 0.97, p.dark)
    p.rect(0.3, 0.42, 0.7, 0.54, p.light)


def rabbit(p: Pen) -> None:
    for x in (0.3, 0.54):
        p.oval(x, 0.02, x + 0.16, 0.46)
        p.oval(x + 0.05, 0.08, x + 0.11, 0.38, p.light)
    p.oval(0.2, 0.32, 0.8, 0.72)
    p.oval(0.12, 0.58, 0.88, 0.98)
    for x in (0.36, 0.58):
        p.oval(x, 0.44, x + 0.07, 0.54, p.dark)


def mushroom(p: Pen) -> None:
    p.rect(0.36, 0.46, 0.64, 0.97, p.light, r=0.1)
    p.draw.pieslice((0.03 * p.s, 0.04 * p.s, 0.97 * p.s, 1.06 * p.s), 180, 360, **p._paint(p.base))
    for x, y in ((0.26, 0.34), (0.5, 0.18), (0.7, 0.36)):
        p.oval(x - 0.07, y - 0.06, x + 0.07, y + 0.06, p.light)


def acorn(p: Pen) -> None:
    p.stroke([(0.5, 0.02), (0.5, 0.2)], 0.08, p.dark)
    p.oval(0.2, 0.24, 0.8, 0.97)
    p.draw.pieslice((0.08 * p.s, 0.12 * p.s, 0.92 * p.s, 0.76 * p.s), 180, 360, **p._paint(p.dark))


def parcel(p: Pen) -> None:
    p.rect(0.04, 0.16, 0.96, 0.9)
    p.rect(0.43, 0.16, 0.57, 0.9, p.light)
    p.rect(0.04, 0.16, 0.96, 0.3, p.dark)
    p.rect(0.1, 0.7, 0.32, 0.82, p.light)


def person(p: Pen) -> None:
    p.oval(0.38, 0.02, 0.62, 0.26)
    p.rect(0.34, 0.28, 0.66, 0.64, r=0.08)
    for a, b in (
        ((0.36, 0.34), (0.2, 0.6)),
        ((0.64, 0.34), (0.8, 0.6)),
        ((0.43, 0.6), (0.38, 0.97)),
        ((0.57, 0.6), (0.62, 0.97)),
    ):
        p.stroke([a, b], 0.11, p.base)


def dog(p: Pen) -> None:
    p.oval(0.2, 0.36, 0.8, 0.7)
    p.oval(0.68, 0.16, 0.98, 0.5)
    p.poly([(0.7, 0.22), (0.74, 0.04), (0.84, 0.2)])
    p.stroke([(0.24, 0.46), (0.04, 0.26)], 0.07)
    for x in (0.28, 0.4, 0.62, 0.72):
        p.stroke([(x, 0.6), (x, 0.94)], 0.08)


def pothole(p: Pen) -> None:
    rim = [
        (0.5 + (0.48 + 0.05 * math.sin(5 * a)) * math.cos(a) * 0.92, 0.5 + (0.32 + 0.05 * math.cos(3 * a)) * math.sin(a))
        for a in (i * math.pi / 14 for i in range(28))
    ]
    p.poly(rim, p.dark)
    if p.outline is None:
        p.poly([(0.5 + (x - 0.5) * 0.7, 0.54 + (y - 0.5) * 0.62) for x, y in rim], (18, 18, 22, 255))


def cone(p: Pen) -> None:
    p.poly([(0.44, 0.03), (0.56, 0.03), (0.78, 0.84), (0.22, 0.84)])
    p.poly([(0.37, 0.32), (0.63, 0.32), (0.69, 0.54), (0.31, 0.54)], p.light)
    p.rect(0.06, 0.82, 0.94, 0.96, p.dark)


def car(p: Pen) -> None:
    p.poly([(0.2, 0.44), (0.34, 0.2), (0.68, 0.2), (0.84, 0.44)], p.light)
    p.rect(0.02, 0.42, 0.98, 0.74, r=0.1)
    for x in (0.14, 0.64):
        p.oval(x, 0.6, x + 0.23, 0.84, (30, 30, 36, 255))


def bus(p: Pen) -> None:
    p.rect(0.03, 0.12, 0.97, 0.8, r=0.07)
    for x in (0.1, 0.32, 0.54, 0.76):
        p.rect(x, 0.22, x + 0.15, 0.46, p.light)
    for x in (0.16, 0.62):
        p.oval(x, 0.68, x + 0.21, 0.9, (30, 30, 36, 255))


def crab(p: Pen) -> None:
    for side in (-1, 1):
        for y in (0.6, 0.72, 0.84):
            p.stroke([(0.5 + side * 0.24, y - 0.08), (0.5 + side * 0.46, y + 0.08)], 0.05, p.dark)
        p.stroke([(0.5 + side * 0.26, 0.5), (0.5 + side * 0.38, 0.3)], 0.08, p.dark)
        p.oval(0.5 + side * 0.37 - 0.11, 0.1, 0.5 + side * 0.37 + 0.11, 0.36)
    p.oval(0.18, 0.4, 0.82, 0.88)
    for x in (0.38, 0.56):
        p.oval(x, 0.46, x + 0.07, 0.56, p.light)


def shell(p: Pen) -> None:
    fan = [(0.5 + 0.47 * math.cos(math.radians(a)), 0.56 + 0.5 * math.sin(math.radians(a))) for a in range(180, 361, 15)]
    p.poly([(0.5, 0.95), *fan])
    for a in range(200, 350, 25):
        p.stroke([(0.5, 0.9), (0.5 + 0.4 * math.cos(math.radians(a)), 0.56 + 0.42 * math.sin(math.radians(a)))], 0.035, p.light)
    p.rect(0.36, 0.84, 0.64, 0.96, p.dark)


def plate(p: Pen) -> None:
    p.oval(0.03, 0.03, 0.97, 0.97, p.light)
    p.arc(0.03, 0.03, 0.97, 0.97, 0, 360, 0.06, p.base)
    p.arc(0.24, 0.24, 0.76, 0.76, 0, 360, 0.05, p.base)


def spoon(p: Pen) -> None:
    p.stroke([(0.5, 0.4), (0.5, 0.96)], 0.12)
    p.oval(0.28, 0.03, 0.72, 0.5)
    p.oval(0.38, 0.12, 0.6, 0.4, p.dark)


def wrench(p: Pen) -> None:
    p.rect(0.41, 0.3, 0.59, 0.97, r=0.06)
    p.poly(
        [
            (0.2, 0.04),
            (0.36, 0.04),
            (0.4, 0.22),
            (0.6, 0.22),
            (0.64, 0.04),
            (0.8, 0.04),
            (0.84, 0.26),
            (0.64, 0.42),
            (0.36, 0.42),
            (0.16, 0.26),
        ]
    )


def hammer(p: Pen) -> None:
    p.rect(0.43, 0.2, 0.57, 0.98, p.light, r=0.04)
    p.rect(0.12, 0.05, 0.74, 0.32, r=0.05)
    p.poly([(0.74, 0.1), (0.95, 0.04), (0.95, 0.3), (0.74, 0.26)], p.dark)


def planet(p: Pen) -> None:
    p.oval(0.18, 0.14, 0.82, 0.86)
    p.arc(0.2, 0.26, 0.8, 0.74, 20, 160, 0.06, p.dark)
    p.arc(0.02, 0.34, 0.98, 0.66, 340, 200, 0.06, p.light)


def rocket(p: Pen) -> None:
    p.poly([(0.3, 0.6), (0.08, 0.88), (0.34, 0.82)], p.dark)
    p.poly([(0.7, 0.6), (0.92, 0.88), (0.66, 0.82)], p.dark)
    p.poly([(0.4, 0.82), (0.6, 0.82), (0.5, 0.98)], (255, 190, 60, 255))
    p.poly([(0.5, 0.02), (0.7, 0.3), (0.7, 0.82), (0.3, 0.82), (0.3, 0.3)])
    p.oval(0.4, 0.34, 0.6, 0.54, p.light)


def apple(p: Pen) -> None:
    p.stroke([(0.5, 0.28), (0.56, 0.04)], 0.06, p.dark)
    p.oval(0.05, 0.2, 0.6, 0.96)
    p.oval(0.4, 0.2, 0.95, 0.96)
    p.oval(0.2, 0.32, 0.34, 0.5, p.light)


def pear(p: Pen) -> None:
    p.stroke([(0.5, 0.2), (0.58, 0.02)], 0.06, p.dark)
    p.oval(0.32, 0.12, 0.68, 0.56)
    p.oval(0.16, 0.38, 0.84, 0.98)
    p.oval(0.28, 0.56, 0.42, 0.74, p.light)


#: label -> (drawing, its usual hue in 0..1, its usual saturation). The usual colour is a hint, not a rule (scenes vary it).
SPRITES: dict[str, tuple[Callable[[Pen], None], float, float]] = {
    "ball": (ball, 0.00, 0.80), "star": (star, 0.14, 0.85), "heart": (heart, 0.93, 0.70), "ring": (ring, 0.76, 0.60),
    "cross": (cross, 0.50, 0.70), "kite": (kite, 0.60, 0.80), "moon": (moon, 0.16, 0.35), "leaf": (leaf, 0.27, 0.75),
    "house": (house, 0.05, 0.75), "mug": (mug, 0.66, 0.55), "tree": (tree, 0.38, 0.75), "bolt": (bolt, 0.10, 0.95),
    "fish": (fish, 0.07, 0.85), "jellyfish": (jellyfish, 0.86, 0.45), "starfish": (starfish, 0.01, 0.75),
    "boat": (boat, 0.06, 0.60), "buoy": (buoy, 0.99, 0.85), "rabbit": (rabbit, 0.09, 0.25),
    "mushroom": (mushroom, 0.01, 0.80), "acorn": (acorn, 0.09, 0.70), "parcel": (parcel, 0.09, 0.55),
    "person": (person, 0.12, 0.10), "dog": (dog, 0.10, 0.10), "pothole": (pothole, 0.60, 0.05), "cone": (cone, 0.06, 0.95),
    "car": (car, 0.58, 0.75), "bus": (bus, 0.13, 0.90), "crab": (crab, 0.02, 0.80), "shell": (shell, 0.90, 0.35),
    "plate": (plate, 0.57, 0.45), "spoon": (spoon, 0.60, 0.08), "wrench": (wrench, 0.60, 0.15),
    "hammer": (hammer, 0.02, 0.70), "planet": (planet, 0.08, 0.60), "rocket": (rocket, 0.97, 0.65),
    "apple": (apple, 0.99, 0.80), "pear": (pear, 0.20, 0.65),
}  # fmt: skip
