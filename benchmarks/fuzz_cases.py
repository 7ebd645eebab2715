"""Texts that look like answers, whole and damaged. A case is a function of (seed, number) alone.

    intact   a fenced or bare JSON list of items, some of them with a fault: too few numbers, NaN, no label ...
    mild     the same after damage that leaves every item readable: prose around, commas, quotes, another list around, no closer
    wild     the same after any damage: cut, spliced, repeated, characters lost, an answer within an answer
    junk     one in 2000, up to megabytes: deep brackets, quotes, digits, noise; alone, before items or after them

Of most intact and mild cases it is known which boxes must be found and how many items there are.
"""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import dataclass

JUNK_EVERY = 2000
SIZES = ((1000, 1000), (640, 480), (644, 476), (96, 96), (1920, 1080), (333.5, 500.25))
LABELS = ("cat", "dog", "traffic light", "person in a red coat", "", "x" * 40)
# Only JSON can carry these: in a text that is none, a brace, newline or quote ends a string.
HARD_LABELS = ("man's hat", 'a "quoted" one', "} and ] and ,", "a\tb", "a\nb", "é 猫 🐈", "back\\slash", "[1, 2]", "\u2028")
KEYS = ("bbox", "box", "box_2d", "Bbox_2d", "bbox_2d ")
FOUND_KEYS = ("bbox_2d", "bbox", "box")  # where a box is found
BAD_NUMBERS = ('"12"', "true", "null", "[1]", "1e999", "-1", "1e9", "9" * 400)
NO_JSON_NUMBERS = ("NaN", "Infinity", "-inf", "012", "+5", ".5", "5.", "0x1F", "1_000", "--1", "1e", "twelve")
EXTRAS = ("0.93", "null", '"x"', "[5, 6]", '{"a": [1]}', "[[]]")


@dataclass(frozen=True)
class Case:
    seed: int
    number: int
    kind: str  # intact | mild | wild | junk
    text: str
    size: tuple[float, float]
    boxes: list[list[float]] | None = None  # that must be found; None: not known
    items: int | None = None  # found and dropped ones together; None: not known


@dataclass(frozen=True)
class Item:
    text: str
    box: list[float] | None  # None: it has a fault
    is_json: bool
    hard: bool


def make_case(seed: int, number: int, largest: int = 4_000_000) -> Case:
    """The case of this number; junk is at most about `largest` characters long."""
    rng = random.Random(f"{seed}/{number}")
    size = rng.choice(SIZES)
    count = rng.choice((0, 1, 1, 2, 3, 5, 8, 20)) if rng.random() < 0.99 else 300
    hard, faults = rng.random() < 0.15, rng.choice((0.0, 0.0, 0.1, 0.5))
    items = [_write_item(rng, size, hard, faults) for _ in range(count)]
    text = _write_answer(rng, [item.text for item in items])
    if number % JUNK_EVERY == JUNK_EVERY - 1:
        junk = _write_junk(rng, largest)
        return Case(seed, number, "junk", rng.choice((junk, text + junk, junk + text, text[:-3] + junk + text)), size)
    kind = rng.choice(("intact", "mild", "wild"))
    if kind != "intact":
        chosen = rng.sample(range(len(MILD)), rng.randint(1, 3) if kind == "mild" else rng.randint(0, 1))
        for index in sorted(chosen):
            text = MILD[index](rng, text)
    if kind == "wild":
        for damage in rng.choices(WILD, k=rng.randint(1, 4)):
            text = damage(rng, text)[:100_000]
        return Case(seed, number, kind, text, size)
    is_json = kind == "intact" and all(item.is_json for item in items)
    if any(item.hard for item in items) and not is_json:
        return Case(seed, number, kind, text, size)
    return Case(seed, number, kind, text, size, [item.box for item in items if item.box], len(items) or None)


def _write_item(rng: random.Random, size: tuple[float, float], hard: bool, faults: float) -> Item:
    """One detection as text; with the probability `faults` something about it is wrong."""
    (x1, x2), (y1, y2) = (sorted(rng.uniform(0, side) for _ in range(2)) for side in size)
    spell = rng.choice((_spell_whole, _spell_whole, repr, "{:.2e}".format, "{:.2f}".format))
    numbers = [spell(value) for value in (x1, y1, x2, y2)]
    box = [float(number) for number in numbers]
    good = box[0] < box[2] <= size[0] and box[1] < box[3] <= size[1]
    label = rng.choice(HARD_LABELS if hard and rng.random() < 0.5 else LABELS)
    fields = {"bbox_2d": "", "label": json.dumps(label, ensure_ascii=rng.random() < 0.5)}
    fault = rng.randrange(8) if rng.random() < faults else None
    if fault == 0:
        numbers[rng.randrange(4)] = rng.choice(BAD_NUMBERS)
    elif fault == 1:
        numbers[rng.randrange(4)] = rng.choice(NO_JSON_NUMBERS)
    elif fault == 2:
        numbers = numbers[2:] + numbers[:2]  # right before left
    elif fault == 3:
        numbers = rng.choice((numbers[:3], numbers[:1], [], [*numbers, "7"], [*numbers, *numbers]))
    elif fault == 4:
        numbers = ["[" + ", ".join(numbers) + "]"]
    fields["bbox_2d"] = "[" + rng.choice((", ", ",")).join(numbers) + "]"
    if fault == 5:
        fields["label"] = rng.choice(("7", "null", "true", '["cat"]', "{}"))
    elif fault == 6:
        del fields[rng.choice(("label", "bbox_2d"))]
    elif fault == 7:
        fields["bbox_2d"] = rng.choice(("7", '"1, 2, 3, 4"', "null", "{}", "true"))
    if "bbox_2d" in fields and rng.random() < faults / 2:
        key = rng.choice(KEYS)
        fields[key] = fields.pop("bbox_2d")
        good = good and key in FOUND_KEYS
    if rng.random() < 0.1:
        fields[rng.choice(("score", "sub_label", "point_2d"))] = rng.choice(EXTRAS)
    names = rng.sample(list(fields), len(fields)) if rng.random() < 0.3 else list(fields)
    text = "{" + ", ".join(f'"{name}": {fields[name]}' for name in names) + "}"
    return Item(text, box if good and fault is None else None, fault != 1, label in HARD_LABELS)


def _spell_whole(value: float) -> str:
    return str(math.floor(value))


def _write_answer(rng: random.Random, items: list[str]) -> str:
    space = rng.choice(("", " ", "\n", "\n\t", "\r\n  "))
    answer = f"[{space}{(',' + (space or ' ')).join(items)}{space}]"
    before, after = rng.choice((("", ""), ("```json\n", "\n```"), ("```json", "```"), (" ", "\n"), ("\n```json\n", "\n```\n")))
    return before + answer + after


# --- damage that leaves every item readable, in the order in which it is done ----------------------------------------------

BETWEEN = re.compile(r"\},(\s*)\{")  # two items: within an item, no "," stands between braces
BEFORE = ("Here it's: ", "I see two cats.\n", "<think>the man's dog, left: at 12, 40</think>\n", "\ufeff", "\u00a0", "* ")
AFTER = (" Done.", "\n\nThese are all cats.", "<|im_end|>", "```", "\n---\n")
SEPARATORS = ("} {", "}, , {", "}\n{", "}, ..., {", "}, // the next one\n{", "}, None, {", "},\n\n\n{")


def _change_separator(rng: random.Random, text: str) -> str:
    separator = rng.choice(SEPARATORS)
    return BETWEEN.sub(lambda _: separator, text, count=rng.choice((0, 1)))


def _surround(rng: random.Random, text: str) -> str:
    start, stop = text.index("["), text.rindex("]") + 1
    before, after = rng.choice((("[", "]"), ("[[", "]]"), ('{"objects": ', "}"), ('{"n": 2, "objects": ', ', "ok": true}')))
    return text[:start] + before + text[start:stop] + after + text[stop:]


def _split_list(rng: random.Random, text: str) -> str:
    return BETWEEN.sub(rng.choice(("}]\n[{", "}] and [{", "}], [{")), text, count=1)


def _lose_closers(rng: random.Random, text: str) -> str:
    end = max(text.rfind("]"), text.rfind("}"))
    return text[: end - rng.choice((0, 0, 1))] if text[end - 1] in "]}" else text[:end]


MILD = (
    _change_separator,
    lambda rng, text: text[: text.rindex("]")] + "," + text[text.rindex("]") :],
    lambda rng, text: rng.choice((_surround, _split_list))(rng, text),
    lambda rng, text: text.replace('"', "'") if rng.random() < 0.6 else re.sub(r'"(\w+)":', r"\1:", text),
    lambda rng, text: rng.choice(BEFORE) + text,
    lambda rng, text: text + rng.choice(AFTER) if rng.random() < 0.5 else _lose_closers(rng, text),
)

# --- any damage ------------------------------------------------------------------------------------------------------------

CHARACTERS = "[]{},:\"'\\`\n\t 0123456789.-eE+abN\x00\x1f\u201c\u201d\u2028é猫🐈\ud800"
WRAPPERS = ("[", '{"a":', '[{"bbox_2d": ', '[{"label": ', '{"label": "a", "bbox_2d": [1, 2, 3, 4], "b": ', '"', "'", "[[1], ")


def _lose_characters(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(("", text[at : at + 1] * 2, rng.choice(CHARACTERS))) + text[at + rng.randint(0, 1) :]
    return text


def _splice(rng: random.Random, text: str) -> str:
    a, b, c = sorted(rng.randrange(len(text) + 1) for _ in range(3))
    return text[:a] + text[b:c] + text[a:b] + text[c:]


def _repeat(rng: random.Random, text: str) -> str:
    a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    return text[:a] + text[a:b] * rng.choice((2, 3, 10, 40)) + text[b:]


WILD = (
    lambda rng, text: text[: rng.randrange(len(text) + 1)],
    _lose_characters,
    _lose_characters,
    _splice,
    _repeat,
    lambda rng, text: text.replace('"', "\u201c"),
    lambda rng, text: text.replace('"', "'"),
    lambda rng, text: text.replace(rng.choice('[]{},:"\n '), ""),
    lambda rng, text: json.dumps(text),
    lambda rng, text: rng.choice(WRAPPERS) * rng.choice((1, 1, 2, 50, 2000)) + text,
    lambda rng, text: rng.choice(WRAPPERS) + text + rng.choice(("]", "}", "}]", '"', "'", "]}")),
    lambda rng, text: text + rng.choice(("", "\n", " or ", ",")) + text,
    lambda rng, text: "The [cat] at [12, 40] and {dog}: " + text,
    lambda rng, text: "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(10,20),(30,40)<|box_end|>" + text,
)

# --- junk ------------------------------------------------------------------------------------------------------------------

UNIT = '{"bbox_2d": [1, 2, 3, 4], "label": "a"}'
REPEATED = (
    "[", "{", "[{", '{"a":', "]}", "[{}]", '"', "'", '"\\', "\\", "' ", ",:", "7", "7,", "-", "1e", " ", "\n", "null ",
    "[1, 2], ", "the [cat] and {dog} ", "```json\n", UNIT, UNIT + ",", UNIT[:-1], UNIT[:-5], '{"bbox_2d": [', '"label": "a", ',
    "\u201c", "猫", "\ud800",
)  # fmt: skip


def _write_junk(rng: random.Random, largest: int) -> str:
    length = int(math.exp(rng.uniform(math.log(min(10_000, largest)), math.log(largest))))
    unit = rng.choice(REPEATED)
    kind = rng.randrange(4)
    if kind == 0:  # noise, of as many characters as a big alphabet has or as a small one
        unit = "".join(rng.choices(rng.choice((CHARACTERS, "[]{}", "[]{},:\"' a1\n")), k=min(length, 50_000)))
    body = unit * (length // len(unit) + 1)
    if kind == 1:  # nested and closed again
        body = body[: length // 2] + rng.choice(("]", "}", "]}", "")) * (length // 4)
    return rng.choice(("", "[", '["', "[{'a': '", '[{"bbox_2d": [')) + body[:length]
