"""What scenes stand on: thirteen textures. Each takes (rng, canvas side, tone) and returns an RGB picture of that side."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw


def _wash(rng: np.random.Generator, n: int, tone: np.ndarray, amount: float, cells: int) -> Image.Image:
    """A smooth random wash around one tone: low-frequency noise, enlarged."""
    field = rng.normal(0.0, amount, (cells, cells, 1)) + rng.normal(0.0, amount / 4, (cells, cells, 3))
    small = Image.fromarray(np.clip(tone + field, 0, 255).astype(np.uint8))
    return small.resize((n, n), Image.Resampling.BICUBIC)


def _tint(tone: np.ndarray, by: float, alpha: int = 255) -> tuple[int, int, int, int]:
    r, g, b = (int(v) for v in np.clip(tone + by, 0, 255))
    return r, g, b, alpha


def _blur(rng, n, tone):
    return _wash(rng, n, tone, 11.0, int(rng.integers(3, 7)))


def _asphalt(rng, n, tone):
    return Image.blend(_wash(rng, n, tone, 9.0, 5), _wash(rng, n, tone, 22.0, 96), 0.45)


def _lines(rng, n, tone, angle, step, width, by):
    image = _wash(rng, n, tone, 8.0, 4)
    draw = ImageDraw.Draw(image, "RGBA")
    dx, dy = math.cos(angle), math.sin(angle)
    for k in range(-n // step - 2, 2 * n // step + 2):
        x, y = k * step * dy + n / 2 * (1 - abs(dy)), k * step * dx
        draw.line((x - 2 * n * dx, y - 2 * n * dy, x + 2 * n * dx, y + 2 * n * dy), fill=_tint(tone, by, 150), width=width)
    return image


def _stripes(rng, n, tone):
    return _lines(
        rng, n, tone, rng.uniform(0, math.pi), int(rng.integers(22, 44)), int(rng.integers(4, 12)), rng.choice([-16, 14])
    )


def _waves(rng, n, tone):
    image = _wash(rng, n, tone, 12.0, 5)
    draw, phase = ImageDraw.Draw(image, "RGBA"), rng.uniform(0, 6.3)
    for y in range(0, n, 28):
        points = [(x, y + 5 * math.sin(x / 21 + phase + y)) for x in range(0, n + 8, 8)]
        draw.line(points, fill=_tint(tone, 24, 130), width=3)
    return image


def _grass(rng, n, tone):
    image = _wash(rng, n, tone, 14.0, 8)
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y, h in zip(rng.uniform(0, n, 70), rng.uniform(0, n, 70), rng.uniform(6, 18, 70), strict=True):
        draw.line((x, y, x + h / 4, y - h), fill=_tint(tone, -22, 150), width=3)
    return image


def _planks(rng, n, tone):
    image = _lines(rng, n, tone, 0.0, int(rng.integers(46, 70)), 4, -30)
    return Image.blend(image, _wash(rng, n, tone, 12.0, 24), 0.25)


def _lanes(rng, n, tone):
    image = _asphalt(rng, n, tone)
    draw, step = ImageDraw.Draw(image, "RGBA"), int(rng.integers(90, 130))
    for y in range(int(rng.integers(10, step)), n, step):
        for x in range(0, n, 64):
            draw.rectangle((x, y, x + 34, y + 6), fill=(238, 232, 210, 200))
    return image


def _checks(rng, n, tone):
    image, step = _wash(rng, n, tone, 6.0, 4), int(rng.integers(38, 56))
    draw = ImageDraw.Draw(image, "RGBA")
    for i in range(n // step + 1):
        for j in range(i % 2, n // step + 1, 2):
            draw.rectangle((i * step, j * step, (i + 1) * step, (j + 1) * step), fill=_tint(tone, -20, 130))
    return image


def _dots(rng, n, tone):
    image, step = _wash(rng, n, tone, 7.0, 4), int(rng.integers(26, 46))
    draw, r = ImageDraw.Draw(image, "RGBA"), rng.uniform(3, 7)
    for i in range(n // step + 1):
        for j in range(n // step + 1):
            x, y = (i + 0.5 * (j % 2)) * step, j * step
            draw.ellipse((x - r, y - r, x + r, y + r), fill=_tint(tone, -22, 150))
    return image


def _stars(rng, n, tone):
    image = _wash(rng, n, tone, 13.0, 6)
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y, r in zip(rng.uniform(0, n, 60), rng.uniform(0, n, 60), rng.uniform(0.8, 2.6, 60), strict=True):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 250, 220, 210))
    return image


def _leaves(rng, n, tone):
    image = _wash(rng, n, tone, 14.0, 7)
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y, r in zip(rng.uniform(0, n, 40), rng.uniform(0, n, 40), rng.uniform(8, 20, 40), strict=True):
        draw.ellipse((x - r, y - r / 2, x + r, y + r / 2), fill=_tint(tone, float(rng.choice([-20, 16])), 120))
    return image


def _grid(rng, n, tone):
    image, step = _wash(rng, n, tone, 6.0, 4), int(rng.integers(26, 38))
    draw = ImageDraw.Draw(image, "RGBA")
    for k in range(0, n, step):
        draw.line((k, 0, k, n), fill=_tint(tone, 26, 150), width=2)
        draw.line((0, k, n, k), fill=_tint(tone, 26, 150), width=2)
    return image


def _print(rng, n, tone):
    image = _wash(rng, n, tone, 5.0, 4)
    draw = ImageDraw.Draw(image, "RGBA")
    for y in range(12, n, 18):
        for x in range(10, n - 20, 60):
            draw.line((x, y, x + rng.uniform(18, 50), y), fill=_tint(tone, -60, 110), width=4)
    return image


BACKGROUNDS = {
    "blur": _blur, "asphalt": _asphalt, "stripes": _stripes, "waves": _waves, "grass": _grass, "planks": _planks,
    "lanes": _lanes, "checks": _checks, "dots": _dots, "stars": _stars, "leaves": _leaves, "grid": _grid, "print": _print,
}  # fmt: skip
MIXED = ("blur", "asphalt", "stripes", "checks", "dots")  # the toy box: one of these per picture
