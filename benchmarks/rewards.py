"""How long a reward takes, as a multiple of what cannot be avoided: `json.loads` and `linear_sum_assignment` on the same input.

    python benchmarks/rewards.py               # about a minute on one thread; writes benchmarks/rewards.csv
    python benchmarks/rewards.py --rounds 20   # quick

Groups of 8 answers about one picture, well-formed JSON with whole numbers, P predictions against G objects of three labels. Each
way is given texts and truth and returns a reward per answer:

    paper, strict ...   `score_group`: parsing, matching, the three rewards, and every part of them kept
    paper, cut off      the same for answers that lack their last two characters, which `json.loads` cannot read: its yardstick is
                        that of the whole answers
    vlm_r1 ...          the peers' published formulas, `vr1kit.baselines`, with our parser and our IoU
    theirs: ...         the peers' own code: microseconds (`THEIRS`), timed once on a two-core machine as busy as this one, by
                        another run; as a multiple of the yardstick of this run they are indicative, no more

The yardstick is given the IoU matrix, too. In a round each way is called twice in a row, the ways in random order. The first call
finds the processor's caches as cold as in a training, where other work comes between: `us` is the median over rounds of its
microseconds per answer (of the processor, for this thread alone) and `times` their ratio to the yardstick's. `times_warm` is the same of the
second call, in which the yardstick gains most. `limit` is what we hold `times` of `paper` to.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from vr1kit.baselines import BASELINES
from vr1kit.boxes import iou_matrix
from vr1kit.rewards import VARIANTS, score_group
from vr1kit.safekeeping.files import write_csv_atomic

ANSWERS, SIDE, LABELS = 8, 1000, ("cat", "dog", "traffic light")
LIMITS = {(5, 5): 4.0, (20, 20): 3.0, (60, 60): 2.0, (600, 60): 2.0}  # of `paper`
# Their matcher is not in the last: it needs torch, and was not timed.
THEIRS = {
    "VLM-R1, detection_score": (79, 546, 4911),
    "Visual-RFT, IoU": (35, 188, 1244),
    "VisionReasoner": (90, 171, 505),
    "V-Triune, label first": (41, 274, 1723),
    "released Vision-R1, parsing and format only": (15, 42, 116),
}


def draw_group(p: int, g: int, rng: np.random.Generator) -> tuple[list[str], list[np.ndarray], np.ndarray, list[str]]:
    """Texts, IoU matrices (P, G), truth (G, 4) and its labels: each object found a little off, and p - g boxes elsewhere."""

    def draw(count: int) -> np.ndarray:
        corner = rng.uniform(0, SIDE - 150, (count, 2))
        return np.hstack([corner, corner + rng.uniform(20, 150, (count, 2))]).round()

    truth, texts, ious = draw(g), [], []
    labels = [LABELS[k % 3] for k in range(g)]
    for _ in range(ANSWERS):
        moved = np.vstack([truth + rng.normal(0, 4, truth.shape), draw(p - g)]).round().clip(0, SIDE)  # (P, 4)
        rows = [{"bbox_2d": box, "label": labels[k % g]} for k, box in enumerate(moved.astype(int).tolist())]
        texts.append(json.dumps(rows))
        ious.append(iou_matrix(moved, truth))
    return texts, ious, truth, labels


def find_ways(p: int, g: int) -> dict[str, Callable[[], object]]:
    texts, ious, truth, labels = draw_group(p, g, np.random.default_rng(0))
    cut, size = [text[:-2] for text in texts], (SIDE, SIDE)

    def yardstick() -> None:
        for text, iou in zip(texts, ious, strict=True):
            json.loads(text)
            linear_sum_assignment(iou, maximize=True)

    ways = {"yardstick": yardstick}
    ways |= {name: lambda v=name: score_group(texts, truth, labels, size, variant=v) for name in VARIANTS}
    ways["paper, cut off"] = lambda: score_group(cut, truth, labels, size)
    return ways | {name: lambda reward=reward: reward(texts, truth, labels, size) for name, reward in BASELINES.items()}


def measure(p: int, g: int, rounds: int) -> list[dict]:
    ways = find_ways(p, g)
    spent: dict[str, list[tuple[int, int]]] = {name: [] for name in ways}
    order, rng = list(ways), np.random.default_rng(1)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            moments = [time.thread_time_ns()]
            for _ in range(2):
                ways[name]()
                moments.append(time.thread_time_ns())
            spent[name].append((moments[1] - moments[0], moments[2] - moments[1]))
    micro = {name: np.median(values, axis=0) / 1e3 / ANSWERS for name, values in spent.items()}  # (2,): cold, warm
    rows = []
    for name, us in micro.items():
        cold, warm = (us / micro["yardstick"]).round(2).tolist()
        limit = LIMITS[p, g] if name == "paper" else ""
        rows.append(
            {"P": p, "G": g, "way": name, "us": round(float(us[0]), 1), "times": cold, "times_warm": warm, "limit": limit}
        )
    if p == g:
        place = list(LIMITS).index((p, g))
        for name, us in THEIRS.items():
            times = round(us[place] / rows[0]["us"], 2)
            rows.append(
                {"P": p, "G": g, "way": f"theirs: {name}", "us": us[place], "times": times, "times_warm": "", "limit": ""}
            )
    return rows


def main(words: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="of 5 and 20 boxes; a third for 60, a thirtieth for 600 (300)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args(words)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    rows = []
    for p, g in LIMITS:
        rows += measure(p, g, max(3, options.rounds // (1 if p < 60 else 3 if p == 60 else 30)))
        for row in rows[-1 - sum((r["P"], r["G"]) == (p, g) for r in rows[:-1]) :]:
            print(
                f"{row['P']:>4}{row['G']:>4}  {row['way']:<52}{row['us']:>9.1f} us{row['times']:>8.2f} x{row['times_warm']:>8}  {row['limit']}",
                flush=True,
            )
    write_csv_atomic(options.out, rows)
    return rows


if __name__ == "__main__":
    main()
