"""Errors: what went wrong, in the manner of TIDE (Bolya et al. 2020, arXiv 2008.08115), and what mending it would be worth.

Every detection that is no hit at IoU 0.5 has one kind, the first that applies; `same` and `other` are its highest IoU with an
object of its own category, and of another:

    badly_placed   0.1 <= same < 0.5               right label, loose box
    mislabelled    other >= 0.5                    good box, wrong label
    duplicate      same >= 0.5                     the object was found already
    background     same and other < 0.1            nothing is there
    both           the rest                        loose box and wrong label

and every object that no detection found is `missed`, unless a badly placed or mislabelled box would find it if it were mended:
such an object is counted once, under that box.

dAP of a kind, TIDE's oracle: AP50 with all errors of the kind mended and everything else as it is, minus AP50. A badly placed
or mislabelled box becomes a hit if it is the highest scored that wants its object and nobody has that; otherwise it is taken
away, as are duplicates, background and both. Missed objects are no longer asked for. The parts do not add up to what is missing
to 100, and what is worth most need not be what is most frequent.

Deviations from tidecv 1.0.1 (its code decides the order above):
1. Matching, ranking and crowds are COCO's (`vr1kit.measures.outcomes`): 100 detections per picture and category, not per picture; a
   detection in a crowd is no error (tidecv's main branch agrees, its release does not).
2. Equal scores keep COCO's order. tidecv ranks errors before hits once something is mended, so that with one constant score it
   compares AP of two rankings.
3. A category without objects, also one whose objects were all missed and are no longer asked for, has no AP and does not count
   in the mean; there it counts as 0 if something was detected.
4. Of IoU exactly 0.5 with an object that was found already: duplicate, as in the paper; its code says badly placed.
5. dAP is not cut off at 0: at COCO's 101 recall points mending can cost a hair.
6. Sizes are relative to the picture (`SIZES`). COCO's areas, 32² and 96² pixels, are meant for its pictures of about 640 x
   480; as shares of such a picture they are 0.33 % and 3 %, and mean the same in a picture of 96 x 96. An error is sized by the
   object it is about where there is one (missed, badly placed, mislabelled), otherwise by its own box, as in tidecv.

Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vr1kit.measures.outcomes import Outcomes, iou_xywh, precision_recall

KINDS = ("missed", "badly_placed", "mislabelled", "both", "duplicate", "background")
FOUND, BACKGROUND = 0.5, 0.1  # TIDE's t_f and t_b
COCO_PICTURE = 640 * 480  # the usual size of COCO's pictures
SIZES = (("small", 0.0), ("medium", 32**2 / COCO_PICTURE), ("large", 96**2 / COCO_PICTURE))  # from this share of the picture on
# Objects in a picture, from this number on. More than 10 are the paper's hard samples; the others are ours.
NUMBERS = (("none", 0), ("1 to 3", 1), ("4 to 6", 4), ("7 to 10", 7), ("more than 10", 11))


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors of D detections and G objects. Kinds as text: one of KINDS, or "" for what is no error."""

    outcomes: Outcomes  # at one threshold, T = 1
    kind: np.ndarray  # (D,) of a detection; "" is a hit or ignored
    about: np.ndarray  # (D,) index of the object that a badly placed or mislabelled box is about, else -1
    mends: np.ndarray  # (D,) bool: mended, the box is a hit
    missed: np.ndarray  # (G,) bool

    def count(self, kind: str) -> int:
        return int((self.missed if kind == "missed" else self.kind == kind).sum())

    def truth_states(self) -> np.ndarray:
        """What became of each object, (G,) of "found", "badly_placed", "mislabelled", "missed", or "crowd"."""
        states = np.where(self.missed, "missed", "found").astype(object)
        states[self.about[self.mends]] = self.kind[self.mends]
        states[self.outcomes.truths.crowd] = "crowd"
        return states

    def ap(self, mend: str | None = None, chosen: tuple[np.ndarray, np.ndarray] | None = None) -> float:
        """AP50 in percent with the errors of one kind mended; nan if nothing is left to find.

        chosen: which detections (D,) bool and objects (G,) bool are mended; None: all of the kind.
        """
        o, which = self.outcomes, chosen or (np.ones(len(self.kind), bool), np.ones(len(self.missed), bool))
        hit, category, positives = o.hit[:, 0].copy(), o.detections.category.copy(), o.positives.copy()
        gone = o.ignored[:, 0].copy()
        if mend == "missed":
            np.subtract.at(positives, o.truths.category[self.missed & which[1]], 1)
        elif mend is not None:
            mine = (self.kind == mend) & which[0]
            hit |= mine & self.mends
            gone |= mine & ~self.mends
            if mend == "mislabelled":
                moved = mine & self.mends
                category[moved] = o.truths.category[self.about[moved]]
        detections = replace(o.detections, category=category)
        precision, _ = precision_recall(detections, hit[:, None], gone[:, None], positives)
        precision = precision[precision > -1]
        return 100 * float(precision.mean()) if len(precision) else float("nan")


def find_errors(outcomes: Outcomes) -> Errors:
    """Sort the errors of outcomes that were matched at IoU 0.5, alone or among others. Raises ValueError if they were not."""
    at = np.flatnonzero(np.isclose(outcomes.thresholds, FOUND))
    if len(at) == 0:
        raise ValueError(f"errors are defined at IoU {FOUND}; these outcomes were matched at {outcomes.thresholds.tolist()}")
    o = replace(outcomes, thresholds=outcomes.thresholds[at], match=outcomes.match[:, at])
    truths, found, hit = o.truths, o.detections, o.hit[:, 0]
    kind, about = np.full(len(found), "", dtype=object), np.full(len(found), -1)
    used, wanted = np.zeros(len(truths), bool), np.zeros(len(truths), bool)
    used[o.match[hit, 0]] = True
    mends = np.zeros(len(found), bool)
    wrong = np.flatnonzero(~hit & ~o.ignored[:, 0])
    wrong = wrong[np.lexsort((found.place[wrong], -found.score[wrong], found.picture[wrong]))]
    objects = [np.zeros(0, int) for _ in o.image_ids]
    real = np.flatnonzero(~truths.crowd)
    for picture in np.unique(truths.picture[real]):
        objects[picture] = real[truths.picture[real] == picture]
    for d in wrong.tolist():  # by falling score within a picture: the first that wants an object gets it
        mine = objects[found.picture[d]]
        iou = iou_xywh(found.boxes_xywh[d : d + 1], truths.boxes_xywh[mine], np.zeros(len(mine), bool))[0]
        kind[d], place = _kind_of(iou, truths.category[mine] == found.category[d])
        if place is None:
            continue
        about[d] = g = mine[place]
        mends[d] = not used[g] and not wanted[g]
        wanted[g] = True
    return Errors(o, kind, about, mends, ~truths.crowd & ~used & ~wanted)


def _kind_of(iou: np.ndarray, same: np.ndarray) -> tuple[str, int | None]:
    """Kind of a detection that is no hit, and which object it is about, from its IoUs with the picture's objects."""
    if len(iou) == 0:
        return "background", None
    own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
    if BACKGROUND <= own.max() < FOUND:
        return "badly_placed", int(own.argmax())
    if other.max() >= FOUND:
        return "mislabelled", int(other.argmax())
    if own.max() >= FOUND:
        return "duplicate", None
    return ("background" if iou.max() < BACKGROUND else "both"), None


# --- tables --------------------------------------------------------------------------------------------------------------

Grouping = Callable[[Errors], tuple[Sequence[str], np.ndarray, np.ndarray]]


def by_size(errors: Errors) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """Names of the sizes, and the index of each detection's (of its object, where it is about one) and of each object's."""
    o = errors.outcomes
    areas = np.where(errors.about >= 0, np.append(o.truths.area, 0.0)[errors.about], o.detections.area)
    shares = areas / o.picture_areas[o.detections.picture], o.truths.area / o.picture_areas[o.truths.picture]
    if not all(np.isfinite(share).all() for share in shares):
        raise ValueError("sizes are relative to the picture, and the annotations give no width and height for some")
    starts = [start for _, start in SIZES]
    return [name for name, _ in SIZES], *(np.searchsorted(starts, share, side="right") - 1 for share in shares)


def by_number(errors: Errors) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """Names of the numbers of objects in a picture (crowds aside), and the index of each detection's and each object's."""
    o = errors.outcomes
    number = np.bincount(o.truths.picture[~o.truths.crowd], minlength=len(o.image_ids))
    group = np.searchsorted([start for _, start in NUMBERS], number, side="right") - 1  # (I,)
    return [name for name, _ in NUMBERS], group[o.detections.picture], group[o.truths.picture]


def describe_errors(errors: Errors, grouping: Grouping | None = None) -> list[dict]:
    """Rows {group, kind, count, dAP, objects, detections}: for each group, and each kind in it, its errors, what mending these
    alone adds to the AP50 of the whole set (None where it leaves nothing to find), and the group's objects and detections.
    """
    o, base = errors.outcomes, errors.ap()
    everything = ["all"], np.zeros(len(errors.kind), int), np.zeros(len(errors.missed), int)
    names, of_detections, of_objects = grouping(errors) if grouping else everything
    rows = []
    for k, name in enumerate(names):
        chosen = of_detections == k, (of_objects == k) & ~o.truths.crowd
        for kind in KINDS:
            count = int((errors.missed & chosen[1]).sum() if kind == "missed" else ((errors.kind == kind) & chosen[0]).sum())
            gain = errors.ap(kind, chosen) - base if count else 0.0
            rows.append({"group": name, "kind": kind, "count": count, "dAP": gain if np.isfinite(gain) else None,
                         "objects": int(chosen[1].sum()), "detections": int(chosen[0].sum())})  # fmt: skip
    return rows


def compare_errors(before: Errors, after: Errors, grouping: Grouping | None = None) -> list[dict]:
    """Rows {group, kind, before, after, difference, dAP_before, dAP_after} of two policies on one set.

    Raises ValueError if the two were not tested on the same objects.
    """
    _check_same(before, after)
    return [
        {"group": b["group"], "kind": b["kind"], "before": b["count"], "after": a["count"],
         "difference": a["count"] - b["count"], "dAP_before": b["dAP"], "dAP_after": a["dAP"]}
        for b, a in zip(describe_errors(before, grouping), describe_errors(after, grouping), strict=True)
    ]  # fmt: skip


def count_changes(before: Errors, after: Errors) -> list[dict]:
    """What became of the same objects: rows {before, after, objects} for each pair of states that occurs, most frequent first.

    Raises ValueError if the two were not tested on the same objects.
    """
    _check_same(before, after)
    pairs = [pair for pair in zip(before.truth_states(), after.truth_states(), strict=True) if "crowd" not in pair]
    counts = {pair: pairs.count(pair) for pair in dict.fromkeys(pairs)}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"before": b, "after": a, "objects": n} for (b, a), n in ranked]


def _check_same(before: Errors, after: Errors) -> None:
    one, other = before.outcomes, after.outcomes
    same = np.array_equal(one.image_ids, other.image_ids) and np.array_equal(one.category_ids, other.category_ids)
    columns = ("picture", "category", "boxes_xywh", "crowd")
    if not same or not all(np.array_equal(getattr(one.truths, c), getattr(other.truths, c)) for c in columns):
        raise ValueError("before and after were tested on different annotations; errors compare on the same objects only")
