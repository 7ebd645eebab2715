"""Results: the measured numbers of a study by place, the paper's number in the same place, and intervals.

A place is (base policy, policy, suite, metric). Every interval is a 95 % interval. Where `intervals` (a bootstrap over
pictures and seeds) are given they are used; else a t-interval over seeds where there are two or more; else there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from vr1kit.runs import project_root, read_json

Row = dict[str, Any]

POLICY_NAMES = {
    "base": "Base",
    "sft": "SFT",
    "sft_equal_compute": "SFT, same compute",
    "vision_r1": "Vision-R1",
    "vision_r1_object": "Vision-R1, object credit",
    "sft_vision_r1": "SFT then Vision-R1",
}
SUITE_NAMES = {
    "in_domain": "in-domain",
    "shifted13": "13 shifted domains",
    "unseen4": "4 unseen domains",
    "questions": "questions",
}
# Whose role a base policy plays: the key in paper_tables.json, and the name the paper uses.
PAPER_MODELS = {"mixed": ("qwen2_5_vl_7b", "Qwen2.5-VL-7B"), "converged": ("griffon_g_7b", "Griffon-G-7B")}
# Table -> its key in paper_tables.json, the paper's model, and each of its rows: printed name, our ablation.
ABLATED = {
    "table3": ("table3_matcher_griffon", "converged", {"box_only": ("box cost only", "all_rewards"),
                                                       "box_and_label": ("box and label", "box_and_label")}),
    "table4": ("table4_rewards_griffon_detection_only", "converged",
               {"base": ("base", "base"), "precision_only": ("precision only", "precision_only"),
                "precision_and_recall": ("precision and recall", "precision_recall")}),
    "table5": ("table5_step_griffon", "converged",
               {"1/3": ("STEP 1/3", "step_1_3"), "1/2": ("STEP 1/2", "all_rewards"), "1": ("STEP 1", "step_1")}),
    "table10": ("table10_step_qwen", "mixed",
                {"base": ("base", "base"), "1/2": ("STEP 1/2", "all_rewards"), "1": ("STEP 1", "step_1")}),
}  # fmt: skip
ABLATION_METRICS = {"map": "AP", "ap50": "AP50", "ap75": "AP75", "ar100": "AR100"}
COLUMNS = (
    ("in_domain", "AP"), ("in_domain", "AP50"), ("in_domain", "AP75"),
    ("shifted13", "AP"), ("unseen4", "AP"), ("questions", "accuracy"),
)  # fmt: skip


def policy_name(policy: str) -> str:
    """The name for readers; an ablation's own name stays as it is."""
    return POLICY_NAMES.get(policy, policy.replace("_", " "))


def read_paper(path: Path | str | None = None) -> dict[str, Any]:
    """The paper's own numbers, paper_figures/paper_tables.json."""
    return read_json(path or project_root() / "paper_figures" / "paper_tables.json")


def paper_value(paper: Mapping[str, Any], base: str, policy: str, suite: str, metric: str) -> float | None:
    """What the paper printed in the same place, or None where it has no such place."""
    model = PAPER_MODELS.get(base, ("", ""))[0]
    place = {
        ("in_domain", "AP"): ("table1_main", "coco_map"),
        ("in_domain", "AP50"): ("table1_main", "coco_ap50"),
        ("in_domain", "AP75"): ("table1_main", "coco_ap75"),
        ("shifted13", "AP"): ("table1_main", "odinw13_avg_map"),
        ("unseen4", "AP"): ("table2_out_of_domain", "avg"),
        ("questions", "accuracy"): ("table6_11_general_qa", None),  # mean of its four benchmarks
    }.get((suite, metric))
    if place is None or policy not in paper[place[0]].get(model, {}):
        return None
    table, column = paper[place[0]], place[1]
    values = table[model][policy]
    return float(np.mean(values)) if column is None else float(values[table["columns"].index(column)])


# --- estimates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A mean and, where one is known, its 95 % interval and where that comes from."""

    mean: float
    low: float | None = None
    high: float | None = None
    how: str = "no interval"


def t_interval(values: Sequence[float]) -> Estimate:
    """Mean and Student's interval over seeds; with one seed the mean alone."""
    x = np.asarray(values, float)  # (S,)
    if len(x) < 2:
        return Estimate(float(x.mean()))
    half = float(stdtrit(len(x) - 1, 0.975)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Estimate(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, f"t-interval over {len(x)} seeds")


class Results:
    """The main rows (and intervals) of a study, asked for by place."""

    def __init__(self, rows: Sequence[Row], intervals: Sequence[Row] | None = None) -> None:
        self.values: dict[tuple[str, str, str, str], dict[int, float]] = {}
        for r in rows:
            if r.get("set", "mean") == "mean" and r["value"] is not None:
                place = (r["base_policy"], r["policy"], r["suite"], r["metric"])
                self.values.setdefault(place, {})[r["seed"]] = float(r["value"])
        self.intervals = {
            (r["base_policy"], r["policy"], r["suite"], r["metric"], kind, r["against"] if kind != "value" else None): r
            for r in intervals or ()
            for kind in (r.get("kind") or "value",)
        }

    def base_policies(self) -> list[str]:
        present = dict.fromkeys(base for base, *_ in self.values)
        return [b for b in PAPER_MODELS if b in present] + [b for b in present if b not in PAPER_MODELS]

    def policies(self, base: str) -> list[str]:
        present = dict.fromkeys(policy for b, policy, *_ in self.values if b == base)
        return [p for p in POLICY_NAMES if p in present] + [p for p in present if p not in POLICY_NAMES]

    def seeds(self, base: str, policy: str, suite: str, metric: str) -> dict[int, float]:
        """Values by seed. The base policy is one, whatever the seed: its rows are repetitions."""
        found = self.values.get((base, policy, suite, metric), {})
        return dict(list(found.items())[:1]) if policy == "base" else found

    def estimate(self, base: str, policy: str, suite: str, metric: str) -> Estimate | None:
        seeds = self.seeds(base, policy, suite, metric)
        if not seeds:
            return None
        if row := self.intervals.get((base, policy, suite, metric, "value", None)):
            return Estimate(float(np.mean(list(seeds.values()))), row["low"], row["high"], "bootstrap")
        return t_interval(list(seeds.values()))

    def contrast(self, base: str, policy: str, against: str, suite: str, metric: str, kind: str) -> Estimate | None:
        """`policy` minus `against` (kind "difference") or divided by it ("ratio"); None if one is missing or 0.

        Its interval: the paired bootstrap's if `intervals` have it (columns `kind` and `against`); else from both
        intervals as if independent, which is too wide where both saw the same pictures; else paired over seeds.
        """
        place = (suite, metric)
        one, other = self.estimate(base, policy, *place), self.estimate(base, against, *place)
        if one is None or other is None or (kind == "ratio" and other.mean == 0):
            return None
        mean = one.mean / other.mean if kind == "ratio" else one.mean - other.mean
        if row := self.intervals.get((base, policy, *place, kind, against)):
            return Estimate(mean, row["low"], row["high"], "paired bootstrap")
        if one.how == other.how == "bootstrap":
            low, high = _combine(one, other, kind)
            return Estimate(mean, low, high, "bootstrap, as if independent")
        a, b = self.seeds(base, policy, *place), self.values[(base, against, *place)]
        pairs = [(a[s], b[s]) for s in a if s in b]
        if len(pairs) < 2 or (kind == "ratio" and any(y == 0 for _, y in pairs)):
            return Estimate(mean)
        over = t_interval([x / y if kind == "ratio" else x - y for x, y in pairs])
        return Estimate(mean, over.low, over.high, over.how)


def _combine(one: Estimate, other: Estimate, kind: str) -> tuple[float | None, float | None]:
    """Zou and Donner 2008 (MOVER): the interval of a difference from two; of a ratio, by way of logarithms."""
    bounds = (one.mean, one.low, one.high, other.mean, other.low, other.high)
    if kind == "ratio":
        if min(bounds) <= 0:
            return None, None
        bounds = tuple(math.log(b) for b in bounds)
    x, x_low, x_high, y, y_low, y_high = bounds
    low, high = x - y - math.hypot(x - x_low, y_high - y), x - y + math.hypot(x_high - x, y - y_low)
    return (math.exp(low), math.exp(high)) if kind == "ratio" else (low, high)
