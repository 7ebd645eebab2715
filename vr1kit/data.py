"""From detection annotations to curated instructions: records in (`vr1kit.formats.readers`), `datasets.Dataset` out.

A `Record` is a picture and its boxes in picture pixels. An `Example` is a record and a task: what is asked of it. `to_dataset`
writes examples in the columns that trl's trainers hand to rewards, with boxes already in the space that the policy answers in.

Deviations from the paper's 49K mix: same three parts in the same proportions (61 % detection, 18 % grounding in other domains,
20 % referring), drawn from scenes; hard samples and negatives where a `Part` asks for them.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vr1kit.filters import Limits, find_hard, judge
from vr1kit.formats.coco import read_coco
from vr1kit.formats.columns import iterate_batches, unpack_boxes
from vr1kit.formats.images import open_image
from vr1kit.prompts import ask_detection, ask_grounding, sort_left_to_right
from vr1kit.records import BadRecord, DataError, DetectionSet, Record

__all__ = ["DataError", "DetectionSet", "Example", "Part", "Record", "ask", "curate", "decode_images", "read_coco",
           "read_image", "to_dataset"]  # fmt: skip


KEPT_PIXELS = 2**26  # of decoded pictures, 270 MB: the tiny profile's mix; ours
_kept: dict[str, Image.Image] = {}  # by path, the one asked for last at the end


def read_image(path: str, keep: bool = True) -> Image.Image:
    """Decode one picture to RGB; the last ones are kept, since training asks for each several times. Raises DataError."""
    image = _kept.pop(path, None)
    if image is None:
        try:
            with open_image(path) as file:
                image = file.convert("RGB")
        except BadRecord as error:
            raise error.at(path, "the picture") from None
        if not keep:
            return image
        room = KEPT_PIXELS - image.width * image.height
        while _kept and sum(kept.width * kept.height for kept in _kept.values()) > room:
            del _kept[next(iter(_kept))]
    _kept[path] = image
    return image


# --- curation --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Example:
    """A record, the task and the text that is asked. Grounding keeps the boxes of its one phrase only."""

    record: Record
    task: str  # detection | grounding | published
    prompt: str
    boxes_xyxy_px: np.ndarray  # (n, 4), left to right
    labels: tuple[str, ...]


def ask(record: Record, categories: Sequence[str], phrase: str | None = None) -> Example:
    """Make an example: grounding of one phrase, or else the record's own question, or else detection of all categories."""
    keep = [i for i, label in enumerate(record.labels) if phrase is None or label == phrase]
    boxes = record.boxes_xyxy_px[keep]
    order = sort_left_to_right(boxes)
    if phrase is not None:
        task, prompt = "grounding", ask_grounding(phrase)
    elif record.prompt is not None:
        task, prompt = "published", record.prompt
    else:
        task, prompt = "detection", ask_detection(categories)
    labels = tuple(record.labels[keep[i]] for i in order)
    return Example(record, task, prompt, boxes[order], labels)


@dataclass(frozen=True)
class Part:
    """A share of a mix. `sources` are set names; pictures are spread over them evenly, or by `quotas`.

    A negative is, in detection, a picture with nothing in it; in grounding, a category that its picture lacks.
    """

    name: str
    sources: tuple[str, ...]
    task: str  # detection | grounding
    n: int
    hard: float | None = None  # share of pictures with more than 10 instances; None: as they come. Paper: 0.5
    negatives: float = 0.0  # share with nothing to find
    quotas: tuple[int, ...] = ()  # pictures of each source, n in all
    balanced: bool = False  # pictures with the labels that were seen least go first, instead of as they come
    phrase_boxes: int = 1  # in grounding: only phrases with at least so many boxes in their picture

    def __post_init__(self):
        for name, share in (("hard", self.hard or 0.0), ("negatives", self.negatives)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share between 0 and 1, got {share!r}")
        if (self.hard or 0.0) + self.negatives > 1:
            raise ValueError(f"hard {self.hard} and negatives {self.negatives} are more than the whole of part '{self.name}'")
        if self.quotas and (len(self.quotas) != len(self.sources) or sum(self.quotas) != self.n or min(self.quotas) < 0):
            what = f"quotas of part '{self.name}' must be one number for each source and {self.n} in all"
            raise ValueError(f"{what}, got {self.quotas}")

    def list_picks(self) -> list[tuple[str, str]]:
        """(source, kind) of each picture. Sources take turns until their quota is full; each has its share of every kind."""
        left = list(self.quotas) or [len(range(i, self.n, len(self.sources))) for i in range(len(self.sources))]
        order = []  # places in `sources`
        while any(left):
            for i in range(len(left)):
                if left[i]:
                    left[i] -= 1
                    order.append(i)
        negatives, hard = round(self.n * self.negatives), round(self.n * (self.hard or 0.0))
        wanted = {"negative": negatives, "hard": hard, "any" if self.hard is None else "easy": self.n - negatives - hard}
        kinds = [kind for _, kind in sorted(((k + 0.5) / n, kind) for kind, n in wanted.items() for k in range(n))]
        by_source = sorted(range(self.n), key=lambda k: (order[k], k))
        kind_of = dict(zip(by_source, kinds, strict=True))
        return [(self.sources[i], kind_of[k]) for k, i in enumerate(order)]


class _Pool:
    """Records of one source by kind, each taken once; places in the set are held, not records."""

    def __init__(self, records: Sequence[Record], kept: np.ndarray, kinds: Mapping[str, np.ndarray], any_empty: bool):
        """`kept` are places in order of taking, `kinds` whether each record of the set is "hard" or "empty", (N,) each."""
        hard, empty = kinds["hard"][kept], kinds["empty"][kept]
        self._records = records
        self._places = {
            "any": list(kept if any_empty else kept[~empty]), "hard": list(kept[hard]),
            "easy": list(kept[~hard & ~empty]), "empty": list(kept[empty]),
        }  # fmt: skip
        self._balanced: dict[str, list] = {}
        self._taken: set[int] = set()

    def take(self, kind: str, balanced: bool = False) -> Record | None:
        if balanced and kind not in self._balanced:
            places = [place for place in self._places[kind] if place not in self._taken]
            order = order_by_balance([self._records[int(place)].labels for place in reversed(places)])
            self._balanced[kind] = [places[-1 - k] for k in reversed(order)]
        places = self._balanced[kind] if balanced else self._places[kind]
        while places:
            place = int(places.pop())
            if place not in self._taken:
                self._taken.add(place)
                return self._records[place]
        return None


def order_by_balance(labels: Sequence[Sequence[str]]) -> list[int]:
    """An order of pictures, given the labels of each one's boxes, in which every beginning is balanced as far as it goes.

    Each next picture is the first one left that has the label with the fewest boxes so far; of equal ones the alphabet decides.
    Pictures without labels come last.
    """
    having: dict[str, list[int]] = {label: [] for label in sorted({label for each in labels for label in each})}
    for place in reversed(range(len(labels))):
        for label in set(labels[place]):
            having[label].append(place)
    counts, taken, order = Counter(), set(), []
    queue = [(0, label) for label in having]  # a heap; entries whose count has grown since are put back
    while queue:
        count, label = heapq.heappop(queue)
        while having[label] and having[label][-1] in taken:
            having[label].pop()
        if not having[label]:
            continue
        if count == counts[label]:
            place = having[label].pop()
            taken.add(place)
            order.append(place)
            counts.update(labels[place])
        heapq.heappush(queue, (counts[label], label))
    return order + [place for place in range(len(labels)) if place not in taken]


def curate(
    sets: Mapping[str, DetectionSet],
    parts: Sequence[Part],
    seed: int,
    min_instances: int = 1,
    max_instances: int = 30,
    min_side_px: float = 4.0,
    limits: Limits | None = None,
) -> tuple[list[Example], list[dict]]:
    """Choose examples for each part without using a record twice. Returns (examples, shuffled; a table of what was dropped).

    `max_instances` 30 and at least one are the released code's; `min_side_px` is ours; `limits` replaces all three.
    Pictures with nothing in them, no crowd either, are kept for parts with negatives. Raises DataError if a source has too few
    pictures, and where a part asks for all objects of a set whose labels are phrases.
    """
    rng = np.random.default_rng(seed)
    limits = limits or Limits(min_instances, max_instances, min_side_px)
    negatives = any(part.negatives and part.task == "detection" for part in parts)
    usable: dict[str, _Pool] = {}
    dropped = []
    for name, data in sets.items():
        kept, kinds = [], {"hard": [np.zeros(0, bool)], "empty": [np.zeros(0, bool)]}
        for batch in iterate_batches(data.records):
            first = sum(map(len, kinds["hard"]))
            kinds["hard"].append(find_hard(batch))
            kinds["empty"].append(np.diff(unpack_boxes(batch)[1]) == 0)
            for place, reason in enumerate(judge(batch, limits, data.phrases, negatives)):
                if reason:
                    image_id = json.loads(batch.column("image_id")[place].as_py())
                    dropped.append({"source": name, "image_id": image_id, "reason": reason})
                else:
                    kept.append(first + place)
        shuffled = np.asarray(kept, int)[rng.permutation(len(kept))]
        usable[name] = _Pool(data.records, shuffled, {k: np.concatenate(v) for k, v in kinds.items()}, limits.min_instances == 0)
    examples = []
    for part in parts:
        for source in part.sources:
            if source in sets and sets[source].phrases and (part.task != "grounding" or part.negatives):
                what = f"part '{part.name}' asks for all or for absent objects, '{source}' has phrases for some objects only"
                raise DataError(f"{what}; make it a grounding part without negatives")
        for source, kind in part.list_picks():
            pool = kind if kind != "negative" else "any" if part.task == "grounding" else "empty"
            record, there = _take(usable.get(source), pool, part)
            if record is None:
                few = "too few pictures" if kind == "any" else f"too few pictures that are {kind}"
                raise DataError(f"source '{source}' has {few} for part '{part.name}' ({part.n}); add pictures or lower n")
            categories = list(sets[source].categories)
            phrase = None
            if part.task == "grounding":
                there = there if kind != "negative" else sorted(set(categories) - set(record.labels))
                if not there:
                    what = f"source '{source}' has a picture with all its categories, {record.image_path.name}"
                    raise DataError(f"{what}, where no phrase is a negative; ask for negatives in detection")
                phrase = str(rng.choice(there))
            examples.append(ask(record, categories, phrase))
    return [examples[i] for i in rng.permutation(len(examples))], dropped


def _take(pool: _Pool | None, kind: str, part: Part) -> tuple[Record | None, list[str]]:
    """The next record for a part, and the phrases that it may be asked for."""
    while pool and (record := pool.take(kind, part.balanced)):
        counts = Counter(record.labels)
        there = sorted(label for label, n in counts.items() if n >= part.phrase_boxes)
        if part.task != "grounding" or there or part.phrase_boxes == 1:
            return record, there
    return None, []


def to_dataset(
    examples: Sequence[Example], write_boxes: Callable[[np.ndarray, int, int], tuple[np.ndarray, tuple[int, int]]], root: Path
):
    """Examples as a `datasets.Dataset` for trl. `write_boxes(boxes_xyxy_px, width, height)` is the policy's: it returns boxes in
    the space it answers in and that space's (width, height).

    Columns: prompt (chat), image (path below `root`), boxes_xyxy, labels, size, task, source, image_id. Give it to
    `decode_images` to get pictures instead of paths.
    """
    from datasets import Dataset  # heavy: only when a dataset is made

    rows = []
    for e in examples:
        boxes, size = write_boxes(e.boxes_xyxy_px, e.record.width, e.record.height)
        rows.append(
            {
                "prompt": [{"role": "user", "content": e.prompt}], "image": str(e.record.image_path.relative_to(root)),
                "boxes_xyxy": np.asarray(boxes, float).tolist(), "labels": list(e.labels), "size": list(size),
                "task": e.task, "source": e.record.source, "image_id": e.record.image_id,
            }
        )  # fmt: skip
    return Dataset.from_list(rows)


def decode_images(dataset, root: Path):
    """Let `image` be a picture, decoded when a row is read."""

    def decode(batch: dict) -> dict:
        if "image" not in batch:
            return batch
        return {**batch, "image": [read_image(str(Path(root) / p)) for p in batch["image"]]}

    return dataset.with_transform(decode)
