"""Procedurally drawn pictures with exact boxes: the data of someone who has none.

Three groups stand in for the paper's evaluation suites (all names are ours):

* ``toybox`` – in-domain, the role of COCO: 12 classes, 1–12 objects, half the pictures dense (more than 6), overlap allowed.
* thirteen *shifted* domains – the role of ODINW-13: own categories, backgrounds and styles. As in the paper, the curated mix
  may hold training pictures of them.
* four *unseen* domains – the role of Table 2: known things in styles that no curated picture ever has.

`wander` is none of them: any things, anywhere, in any style, for pre-training alone (`vr1kit.toy.pretrain`). A large model has seen
outlines and fog before it is trained to localize; the tiny one must, too.

Simple questions (count, colour, yes/no) play the role of Table 6.

`draw_scene(domain, seed)` is a pure function of its arguments. Each thing is drawn on a tile of its own, so its box is the
extent of the pixels that were really drawn, to half a pixel; nothing is estimated. `write_scenes` writes PNG plus COCO JSON,
which `vr1kit.data` reads by the same reader as COCO itself.
"""

from __future__ import annotations

import colorsys
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vr1kit.toy.backgrounds import BACKGROUNDS, MIXED
from vr1kit.toy.sprites import SPRITES, Pen

SIDE = 192  # ours: pictures are 192 x 192 px, twice the tiny policy's input, so that coordinates must really be converted
_SS = 2  # supersampling: everything is drawn at twice the size and averaged down
MAX_OBJECTS = 12
DENSE_ABOVE = 6  # ours: "dense" = more than 6 objects, half of this world's maximum (the paper: more than 10 of COCO's)
COLOURS = {"red": 0.0, "orange": 0.075, "yellow": 0.15, "green": 0.33, "cyan": 0.5, "blue": 0.62, "purple": 0.77, "pink": 0.91}


@dataclass(frozen=True)
class Domain:
    """What a family of pictures looks like. Sizes are sides in px of a 192 px picture."""

    name: str
    labels: tuple[str, ...]
    background: str  # a key of backgrounds.BACKGROUNDS
    tones: tuple[tuple[int, int, int], ...]  # background colours, one chosen per picture
    style: str = "paint"  # paint | heat | outline | neon | fog | sketch | haze
    objects: tuple[int, int] = (1, MAX_OBJECTS)
    sides: tuple[float, float] = (30.0, 70.0)
    free_colour: float = 0.0  # share of objects whose hue is drawn at random


TOYBOX = Domain(
    "toybox",
    ("ball", "star", "heart", "ring", "cross", "kite", "moon", "leaf", "house", "mug", "tree", "bolt"),
    "mixed",
    ((236, 228, 214), (214, 226, 236), (222, 234, 216), (240, 222, 222), (226, 220, 238), (60, 66, 84), (84, 70, 62)),
    free_colour=0.12,
    sides=(34, 76),
)

SHIFTED = (  # the role of ODINW-13
    Domain("aquarium", ("fish", "jellyfish", "starfish"), "waves", ((18, 92, 140), (22, 120, 150)), objects=(1, 8)),
    Domain("harbour", ("boat", "buoy"), "waves", ((92, 150, 176), (70, 128, 150)), objects=(1, 8), sides=(28, 56)),
    Domain("meadow", ("rabbit",), "grass", ((120, 168, 84), (146, 180, 96)), objects=(1, 6), sides=(32, 76)),
    Domain("forest", ("mushroom", "acorn"), "grass", ((94, 78, 54), (72, 84, 52)), objects=(1, 8), sides=(28, 60)),
    Domain("parcels", ("parcel",), "planks", ((170, 164, 158), (150, 150, 156)), objects=(1, 7), sides=(34, 76)),
    Domain("thermal", ("person", "dog"), "blur", ((34, 34, 40), (52, 50, 56)), style="heat", objects=(1, 7), sides=(32, 68)),
    Domain("road", ("pothole", "cone"), "asphalt", ((112, 112, 116), (94, 96, 100)), objects=(1, 7), sides=(32, 66)),
    Domain("traffic", ("car", "bus"), "lanes", ((92, 94, 98), (120, 118, 112)), objects=(1, 8), sides=(30, 64)),
    Domain("beach", ("crab", "shell"), "asphalt", ((226, 204, 160), (236, 218, 180)), objects=(1, 8), sides=(28, 60)),
    Domain("kitchen", ("plate", "spoon"), "checks", ((206, 184, 170), (188, 200, 196)), objects=(1, 8), sides=(30, 66)),
    Domain("toolbox", ("wrench", "hammer"), "planks", ((150, 112, 74), (132, 100, 70)), objects=(1, 7), sides=(32, 66)),
    Domain("space", ("planet", "rocket"), "stars", ((14, 14, 34), (28, 14, 40)), objects=(1, 8), sides=(32, 66)),
    Domain("orchard", ("apple", "pear"), "leaves", ((104, 150, 92), (132, 170, 110)), objects=(1, 9), sides=(28, 52)),
)

UNSEEN = (  # the role of Table 2's four sets: known things, styles that no curated picture has
    Domain("blueprint", ("house", "star", "tree", "mug"), "grid", ((28, 62, 128), (34, 76, 140)), style="outline", objects=(1, 8), sides=(32, 66)),
    Domain("neon", ("heart", "ring", "bolt", "moon"), "blur", ((12, 10, 18), (20, 12, 28)), style="neon", objects=(1, 8), sides=(32, 66)),
    Domain("fog", ("boat", "car", "rabbit"), "blur", ((196, 200, 206), (210, 208, 204)), style="fog", objects=(1, 7), sides=(30, 66)),
    Domain("collage", ("fish", "apple", "rocket", "plate"), "print", ((238, 234, 222), (228, 230, 232)), objects=(1, 8), sides=(30, 64)),
)  # fmt: skip

DOMAINS: dict[str, Domain] = {d.name: d for d in (TOYBOX, *SHIFTED, *UNSEEN)}


@dataclass(frozen=True)
class SceneObject:
    label: str
    box_xyxy_px: tuple[float, float, float, float]  # picture pixels, exclusive right and bottom edges
    colour: str  # nearest of COLOURS
    visible: float  # share of its pixels that nothing drawn later hides


@dataclass(frozen=True)
class Scene:
    image: Image.Image  # RGB, SIDE x SIDE
    objects: tuple[SceneObject, ...]  # painting order, back to front: arbitrary for a reader, as COCO's order is
    domain: str
    seed: int


# --- one thing on a tile --------------------------------------------------------------------------------------------------
def _rgba(hue: float, saturation: float, value: float) -> tuple[int, int, int, int]:
    r, g, b = (int(255 * v) for v in colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)))
    return r, g, b, 255


def _name_colour(hue: float) -> str:
    return min(COLOURS, key=lambda name: min(abs(hue % 1 - COLOURS[name]), 1 - abs(hue % 1 - COLOURS[name])))


def _tile(label: str, side_px: int, hue: float, saturation: float, value: float, style: str, turn: float) -> Image.Image:
    """One thing, alone, on a transparent tile, cropped to the pixels it really has."""
    draw_sprite, _, _ = SPRITES[label]
    tile = Image.new("RGBA", (side_px, side_px))
    base, dark, light = _rgba(hue, saturation, value), _rgba(hue, saturation, value * 0.58), _rgba(hue, saturation * 0.3, 0.98)
    outline = None
    if style == "outline":
        outline = (232, 240, 255, 255)
    elif style == "neon":
        outline = _rgba(hue, 0.75, 1.0)
    elif style == "sketch":
        outline = base
    elif style == "heat":
        base, dark, light = _rgba(0.11, 0.12, value), _rgba(0.09, 0.2, value * 0.8), _rgba(0.12, 0.05, 1.0)
    elif style == "fog":
        base, dark, light = (_mix(c, (200, 203, 208), 0.6) for c in (base, dark, light))
    elif style == "haze":
        base, dark, light = (_mix(c, (128, 128, 128), 0.5) for c in (base, dark, light))
    draw_sprite(Pen(ImageDraw.Draw(tile), side_px, base, dark, light, outline))
    if turn:
        tile = tile.rotate(turn, Image.Resampling.BILINEAR, expand=True)
    return tile.crop(tile.getchannel("A").point(lambda a: 255 if a > 127 else 0).getbbox())


def _mix(colour: tuple[int, ...], other: tuple[int, int, int], share: float) -> tuple[int, int, int, int]:
    r, g, b = (round(a * (1 - share) + o * share) for a, o in zip(colour[:3], other, strict=True))
    return r, g, b, 255


def _choose_count(domain: Domain, rng: np.random.Generator) -> int:
    """Half the toy box's pictures are dense; the shifted domains choose evenly between their bounds."""
    low, high = domain.objects
    if high <= 2 * DENSE_ABOVE - 1:
        return int(rng.integers(low, high + 1))
    return int(rng.integers(DENSE_ABOVE + 1, high + 1) if rng.random() < 0.5 else rng.integers(low, DENSE_ABOVE + 1))


def wander(seed: int) -> Domain:
    """A domain of its own for every seed: 2 to 12 of all labels on a random background and tone; a fifth of them only outlines
    in the thing's own colour, a fifth under a grey haze. For pre-training; ours."""
    rng = np.random.default_rng([seed, *b"wander"])
    labels = tuple(str(v) for v in rng.choice(list(SPRITES), int(rng.integers(2, MAX_OBJECTS + 1)), replace=False))
    tone = tuple(int(v) for v in rng.integers(10, 246) + rng.normal(0, 25, 3).clip(-60, 60))
    style = str(rng.choice(("paint", "sketch", "haze"), p=(0.6, 0.2, 0.2)))
    return Domain("wander", labels, str(rng.choice(list(BACKGROUNDS))), (tone,), style, sides=(30, 76), free_colour=0.15)


def draw_scene(domain: str | Domain, seed: int) -> Scene:
    """Draw one picture. The same (domain, seed) gives the same picture and boxes, byte for byte.

    Raises KeyError for an unknown domain name.
    """
    d = DOMAINS[domain] if isinstance(domain, str) else domain
    rng = np.random.default_rng([seed, *d.name.encode()])
    n = SIDE * _SS
    tone = np.asarray(d.tones[rng.integers(len(d.tones))], float) + rng.normal(0, 5, 3)
    kind = str(rng.choice(MIXED)) if d.background == "mixed" else d.background
    canvas = BACKGROUNDS[kind](rng, n, tone)
    wanted = _choose_count(d, rng)
    shrink = 1.0 if wanted <= DENSE_ABOVE else 0.74  # room for many: smaller things
    placed: list[tuple[str, Image.Image, int, int, str]] = []
    for _ in range(60):
        if len(placed) == wanted:
            break
        label = str(rng.choice(d.labels))
        _, hue, saturation = SPRITES[label]
        hue = rng.random() if rng.random() < d.free_colour else hue + rng.uniform(-0.03, 0.03)
        side = math.exp(rng.uniform(math.log(d.sides[0]), math.log(d.sides[1]))) * shrink
        side = max(side, 28.0)
        turn = 0.0 if d.style == "outline" else float(rng.uniform(-16, 16))
        tile = _tile(label, round(side * _SS), hue, saturation + rng.uniform(-0.1, 0.1), rng.uniform(0.72, 0.95), d.style, turn)
        x, y = int(rng.integers(0, max(n - tile.width, 1))) & ~1, int(rng.integers(0, max(n - tile.height, 1))) & ~1
        box = (x, y, x + tile.width, y + tile.height)
        if all(_overlap(box, (px, py, px + t.width, py + t.height)) < 0.22 for _, t, px, py, _ in placed):
            placed.append((label, tile, x, y, _name_colour(hue)))
    owner = np.zeros((n, n), np.int16)  # which object each pixel shows, 0 = none
    for i, (_, tile, x, y, _) in enumerate(placed, 1):
        if d.style == "neon":
            _glow(canvas, tile, x, y)
        elif d.style == "paint":
            shadow = Image.new("RGBA", tile.size, (0, 0, 0, 70))
            canvas.paste(shadow, (x + 5, y + 6), tile.getchannel("A").point(lambda a: a * 70 // 255))
        canvas.paste(tile, (x, y), tile)
        region = owner[y : y + tile.height, x : x + tile.width]
        region[np.asarray(tile.getchannel("A"))[: region.shape[0], : region.shape[1]] > 127] = i
    objects = []
    for i, (label, tile, x, y, colour) in enumerate(placed, 1):
        own = int((np.asarray(tile.getchannel("A")) > 127).sum())
        box = (x / _SS, y / _SS, (x + tile.width) / _SS, (y + tile.height) / _SS)
        objects.append(SceneObject(label, box, colour, round(int((owner == i).sum()) / own, 3)))
    return Scene(canvas.reduce(_SS), tuple(objects), d.name, seed)


def _glow(canvas: Image.Image, tile: Image.Image, x: int, y: int) -> None:
    pad = 12
    halo = Image.new("RGBA", (tile.width + 2 * pad, tile.height + 2 * pad))
    halo.paste(tile, (pad, pad), tile)
    halo = halo.filter(ImageFilter.GaussianBlur(6))
    canvas.paste(halo, (x - pad, y - pad), halo)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over the smaller box's area."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


# --- questions (Table 6's role) -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Question:
    kind: str  # count | colour | yes_no
    question: str
    answer: str


def ask_question(scene: Scene, seed: int, categories: tuple[str, ...] | None = None) -> Question:
    """One simple question about a scene with a one-word answer. Deterministic by seed.

    categories: what may be asked for in vain; the scene's domain says where it is a known one.
    """
    rng = np.random.default_rng([seed, scene.seed, 77])
    labels = [o.label for o in scene.objects]
    kind = str(rng.choice(("count", "colour", "yes_no")))
    once = [o for o in scene.objects if labels.count(o.label) == 1]
    if kind == "colour" and once:
        chosen = once[rng.integers(len(once))]
        return Question("colour", f"What colour is the {chosen.label}?", chosen.colour)
    if kind == "count":
        label = str(rng.choice(labels))
        return Question("count", f"How many {label} are there?", str(labels.count(label)))
    present = rng.random() < 0.5
    absent = [c for c in categories or DOMAINS[scene.domain].labels if c not in labels]
    label = str(rng.choice(labels if present or not absent else absent))
    return Question("yes_no", f"Is there a {label}?", "yes" if label in labels else "no")


# --- on disk ----------------------------------------------------------------------------------------------------------------
def write_scenes(folder: Path, domain: str, seeds: Iterable[int]) -> Path:
    """Write PNG pictures and a COCO `annotations.json` to `folder`; return the JSON's path.

    Boxes are COCO's: [x, y, width, height] in picture pixels. The JSON is written last, so a folder with one is complete.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    categories = {label: i for i, label in enumerate(DOMAINS[domain].labels, 1)}
    images, annotations = [], []
    for scene in draw_scenes(domain, seeds):
        name = f"{domain}_{scene.seed:07d}.png"
        scene.image.save(folder / "images" / name)
        image_id = len(images) + 1
        images.append({"id": image_id, "file_name": name, "width": SIDE, "height": SIDE, "seed": scene.seed})
        for o in scene.objects:
            x1, y1, x2, y2 = o.box_xyxy_px
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": categories[o.label], "iscrowd": 0,
                    "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "colour": o.colour, "visible": o.visible,
                }
            )  # fmt: skip
    coco = {
        "info": {"description": f"vr1kit scenes, domain {domain}", "version": "1"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": label} for label, i in categories.items()],
    }
    path, temporary = folder / "annotations.json", folder / "annotations.json.tmp"
    temporary.write_text(json.dumps(coco))
    temporary.replace(path)
    return path


def draw_scenes(domain: str, seeds: Iterable[int]) -> Iterator[Scene]:
    """Draw many scenes of one domain, lazily."""
    for seed in seeds:
        yield draw_scene(domain, seed)
