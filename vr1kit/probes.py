"""Probes: does a reward pay for cheating? Eleven answers that no honest reader would give, scored on real scenes.

A reward is what `baselines.BASELINES` holds: a function of (texts, boxes_xyxy, labels, size), one float per text, at least 0.
`collect_rewards` lists those too, with every `rewards.Variant` by its total. A cheat (`CHEATS`) is a pure function of what
is there and what was asked: truth boxes (G, 4), their labels, the categories asked for, (width, height) -> an answer.

When a cheat pays, by the means over the same pictures:
1. Cheats built on the truth (`ON_TRUTH`) say all boxes, and too many or with false labels. One pays if that costs nothing:
   its mean is at least that of the honest answer.
2. Most others need no look at the picture. One pays if it earns something, and on average at least as much as an honest
   but modest reading (`write_modest`): every third box missing, every edge off by 5 % of its side. "guessed rest" is that
   same reading with a junk box for each missing one, so it pays if guessing costs nothing.
3. "box for nothing" is the cheat for pictures that show nothing of what was asked, where `[]` is honest; it is built on that
   truth, see 1. All others are scored where there is something to find: a mean over both would let one hide the other.

No verdict says how easily a policy finds a cheat, and one that costs little may still spread. Rewards of written form count
as far as the reward has them: the variants do, the baselines do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vr1kit.baselines import BASELINES, Size
from vr1kit.boxes import Boxes
from vr1kit.coordinates import CoordinateSpace, convert_boxes_xyxy, round_boxes_xyxy
from vr1kit.prompts import ask_detection, sort_left_to_right, write_answer
from vr1kit.rewards import VARIANTS, Variant, score_group
from vr1kit.scenes import SIDE, TOYBOX, draw_scene

Reward = Callable[[Sequence[str], Boxes, Sequence[str], Size], Sequence[float]]
Cheat = Callable[[Boxes, Sequence[str], Sequence[str], Size], str]

INPUT_SIZE = (96, 96)  # ours: what the tiny policy sees
EMPTY_EVERY = 8  # ours: one picture in so many is asked for what it does not show
JUNK = 40  # as many as the released code was found to let pass
GRID = 6  # ours: boxes per side
JITTER = 0.05  # ours: of a box's side
MARGIN = 1e-9  # ours: below this, two means are equal


# --- Answers ----------------------------------------------------------------------------------------------------------------


def _honest(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return write_answer(boxes_xyxy, labels)


def write_modest(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return write_answer(*_read_modestly(boxes_xyxy, labels, size))


def _guessed_rest(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    seen, names = _read_modestly(boxes_xyxy, labels, size)
    return _add_junk(seen, names, categories, size, len(labels) - len(names))


def _every_box_twice(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return write_answer(np.concatenate([boxes_xyxy, boxes_xyxy]), [*labels, *labels])


def _forty_junk_boxes(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return _add_junk(boxes_xyxy, labels, categories, size, JUNK)


def _one_surplus_box(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return _add_junk(boxes_xyxy, labels, categories, size, 1)


def _wrong_labels(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    """Each label is the category after the right one; with one category, a word that nobody asked for."""
    following = dict(zip(categories, [*categories[1:], categories[0]], strict=True)) if len(categories) > 1 else {}
    return write_answer(boxes_xyxy, [following.get(label, f"not {label}") for label in labels])


def _whole_picture(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return write_answer(_whole(size), categories[:1])


def _all_labels(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return write_answer(np.repeat(_whole(size), len(categories), axis=0), categories)


def _grid(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    x, y = (np.linspace(0, side, GRID + 1) for side in size)  # (7,) each
    cells = np.array([(x[i], y[j], x[i + 1], y[j + 1]) for j in range(GRID) for i in range(GRID)])  # (36, 4)
    return write_answer(cells, [categories[0]] * len(cells))


def _empty_answer(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return "[]"


def _prompt_copy(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size) -> str:
    return ask_detection(categories)


def _read_modestly(boxes_xyxy: Boxes, labels: Sequence[str], size: Size) -> tuple[Boxes, list[str]]:
    """What is there but every third box, edges moved in or out by 5 % of their side, always in the same way."""
    kept = [i for i in range(len(labels)) if i % 3 != 2]
    boxes = boxes_xyxy[kept]
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)  # (N, 4)
    signs = np.random.default_rng(0).choice((-1.0, 1.0), boxes.shape)  # (N, 4)
    return round_boxes_xyxy(boxes + JITTER * sides * signs, size), [labels[i] for i in kept]


def _add_junk(boxes_xyxy: Boxes, labels: Sequence[str], categories: Sequence[str], size: Size, count: int) -> str:
    """These boxes, then `count` small ones anywhere with any label: the same ones for every picture of this size."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, np.multiply(size, 0.8), (count, 2))
    high = low + rng.uniform(np.multiply(size, 0.05), np.multiply(size, 0.2), (count, 2))
    names = [categories[i] for i in rng.integers(0, len(categories), count)]
    return write_answer(np.concatenate([boxes_xyxy, round_boxes_xyxy(np.hstack([low, high]), size)]), [*labels, *names])


def _whole(size: Size) -> NDArray[np.float64]:
    return np.array([[0.0, 0.0, *size]])  # (1, 4)


CHEATS: dict[str, Cheat] = {
    "honest": _honest,  # no cheat, but what they are compared with
    "every box twice": _every_box_twice,
    "forty junk boxes": _forty_junk_boxes,
    "one surplus box": _one_surplus_box,
    "wrong labels": _wrong_labels,
    "guessed rest": _guessed_rest,
    "whole picture": _whole_picture,
    "all labels": _all_labels,
    "grid": _grid,
    "empty answer": _empty_answer,
    "prompt copy": _prompt_copy,
    "box for nothing": _one_surplus_box,  # where the truth is empty
}
ON_TRUTH = ("every box twice", "forty junk boxes", "one surplus box", "wrong labels", "box for nothing")
ON_NOTHING = ("box for nothing",)  # scored where there is nothing to find; the others where there is something


# --- Pictures and the table -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sample:
    """What is there and what was asked, in the space that answers are written in."""

    boxes_xyxy: Boxes  # (G, 4) whole numbers, so that an answer can be exact
    labels: tuple[str, ...]  # G
    categories: tuple[str, ...]
    size: Size


def sample_scenes(n: int = 64, seed: int = 0) -> list[Sample]:
    """Toy-box pictures asked for all of its categories; every eighth is asked only for those that it does not show."""
    samples = []
    for index, scene_seed in enumerate(np.random.default_rng(seed).integers(0, 2**31, n).tolist()):
        objects = draw_scene("toybox", scene_seed).objects
        categories = TOYBOX.labels
        if index % EMPTY_EVERY == EMPTY_EVERY - 1:
            shown = {thing.label for thing in objects}
            absent = tuple(label for label in categories if label not in shown)
            categories, objects = (absent, ()) if absent else (categories, objects)  # 12 things can be of 12 categories
        boxes_px = [thing.box_xyxy_px for thing in objects]
        boxes = convert_boxes_xyxy(boxes_px, CoordinateSpace.PIXELS, CoordinateSpace.MODEL_INPUT, (SIDE, SIDE), INPUT_SIZE)
        order = sort_left_to_right(boxes)
        boxes = round_boxes_xyxy(boxes[order], INPUT_SIZE)
        samples.append(Sample(boxes, tuple(objects[i].label for i in order), categories, INPUT_SIZE))
    return samples


def collect_rewards() -> dict[str, Reward]:
    """Every variant of ours by its total under the beginner's criteria, then every baseline."""
    return {**{name: _total_of(variant) for name, variant in VARIANTS.items()}, **BASELINES}


def probe_reward(reward: Reward, samples: Sequence[Sample]) -> list[dict[str, str | float | bool]]:
    """Rows {cheat, mean, honest, modest, pays}, one per cheat that some of the samples are for."""
    scored = []
    for sample in samples:
        answers = _write_all(sample)
        values = reward(list(answers.values()), sample.boxes_xyxy, sample.labels, sample.size)
        scored.append((len(sample.labels) == 0, dict(zip(answers, values, strict=True))))
    rows = []
    for cheat in CHEATS:
        mine = [values for empty, values in scored if empty == (cheat in ON_NOTHING)]
        if mine and cheat != "honest":
            mean, honest, modest = (float(np.mean([values[name] for values in mine])) for name in (cheat, "honest", "modest"))
            bar = honest if cheat in ON_TRUTH else modest
            pays = mean >= bar - MARGIN and (cheat in ON_TRUTH or mean > MARGIN)
            rows.append({"cheat": cheat, "mean": mean, "honest": honest, "modest": modest, "pays": pays})
    return rows


def probe_all(samples: Sequence[Sample], rewards: Mapping[str, Reward] | None = None) -> list[dict[str, str | float | bool]]:
    """The tidy table: rows {reward, cheat, mean, honest, modest, pays} of all `rewards`, by default `collect_rewards()`."""
    rewards = collect_rewards() if rewards is None else rewards
    return [{"reward": name, **row} for name, reward in rewards.items() for row in probe_reward(reward, samples)]


def _write_all(sample: Sample) -> dict[str, str]:
    asked = (sample.boxes_xyxy, sample.labels, sample.categories, sample.size)
    return {**{name: cheat(*asked) for name, cheat in CHEATS.items()}, "modest": write_modest(*asked)}


def _total_of(variant: Variant) -> Reward:
    def total(texts: Sequence[str], boxes_xyxy: Boxes, labels: Sequence[str], size: Size) -> list[float]:
        return [score.total for score in score_group(texts, boxes_xyxy, labels, size, variant=variant)]

    return total
