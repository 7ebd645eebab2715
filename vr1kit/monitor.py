"""Monitor: what the numbers of a GRPO run mean, in words, while it runs; and an end to a hopeless one, if asked.

| finding | when, over the last WINDOW steps | what to do |
|---|---|---|
| no_signal | at least 95 % of the groups have answers that all earn the same | other prompts, more generations, an easier stage |
| cut_off | more than 30 % of the answers reach the limit | a larger max_completion_length |
| format_collapse | well-formed answers fell below half of their best, and below 50 % | a smaller learning rate, or beta |
| kl_explosion | the distance from the base passed 10, or 20 times its median so far | a smaller learning rate, or a larger beta |
| entropy_collapse | entropy fell below 5 % of what it was at the beginning | a higher temperature, beta, or a smaller learning rate |
| not_finite | loss or gradient is no number | a smaller learning rate, float32, max_grad_norm |

All thresholds are ours. Plain data: rows of log.jsonl in, findings out; nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

WINDOW = 20
SAME, CUT, COLLAPSE, KL_MOST, KL_RATIO, ENTROPY_SHARE = 0.95, 0.3, 0.5, 10.0, 20.0, 0.05
HOPELESS = ("no_signal", "format_collapse", "kl_explosion", "not_finite")  # what stops a run, if it may


@dataclass(frozen=True)
class Finding:
    name: str
    step: int
    words: str

    @property
    def hopeless(self) -> bool:
        return self.name in HOPELESS


def examine(rows: Sequence[Mapping]) -> list[Finding]:
    """What is wrong at the last of these log rows; empty where all is well. Rows as `log.jsonl` has them, oldest first."""
    if not rows:
        return []
    last, step = rows[-1], rows[-1].get("step", len(rows))
    found = []
    bad = [name for name in ("loss", "grad_norm", "reward") if not _is_number(last.get(name, 0.0))]
    if bad:
        words = f"{' and '.join(bad)} is not a number; lower the learning rate, or train in float32"
        found.append(Finding("not_finite", step, words))
    recent = rows[-WINDOW:]
    if len(recent) < WINDOW:
        return found
    same, cut = _mean(recent, "zero_advantage"), _mean(recent, "cut_off")
    if same is not None and same >= SAME:
        words = f"in {same:.0%} of the groups all answers earn the same reward, so there is nothing to learn from"
        level = _mean(recent, "reward") or 0.0
        words += (
            "; all are worth nothing: begin with SFT or an easier stage"
            if level < 0.05
            else "; take harder pictures or more generations"
        )
        found.append(Finding("no_signal", step, words))
    if cut is not None and cut > CUT:
        words = f"{cut:.0%} of the answers are cut at the limit; raise max_completion_length"
        found.append(Finding("cut_off", step, words))
    formats = [r["dual_format"] for r in rows if _is_number(r.get("dual_format"))]
    if len(formats) >= 2 * WINDOW:
        best, now = max(fmean(formats[k : k + WINDOW]) for k in range(len(formats) - WINDOW)), fmean(formats[-WINDOW:])
        if now < COLLAPSE * best and now < COLLAPSE:
            words = f"well-formed answers fell from {best:.0%} to {now:.0%}; lower the learning rate, or set beta"
            found.append(Finding("format_collapse", step, words))
    distances = [r["kl"] for r in rows if _is_number(r.get("kl"))]
    if len(distances) >= WINDOW:
        now, usual = fmean(distances[-3:]), median(distances)
        if now > KL_MOST or (now > KL_RATIO * usual and now > 1.0):
            words = (
                f"the distance from the base policy is {now:.1f} (usually {usual:.2g}); lower the learning rate, or raise beta"
            )
            found.append(Finding("kl_explosion", step, words))
    entropies = [r["entropy"] for r in rows if _is_number(r.get("entropy"))]
    if len(entropies) >= 2 * WINDOW:
        first, now = fmean(entropies[:WINDOW]), fmean(entropies[-WINDOW:])
        if now < ENTROPY_SHARE * first:
            words = f"entropy fell from {first:.2g} to {now:.2g}: the policy no longer tries anything; raise temperature or beta"
            found.append(Finding("entropy_collapse", step, words))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _mean(rows: Sequence[Mapping], name: str) -> float | None:
    values = [r[name] for r in rows if _is_number(r.get(name))]
    return fmean(values) if values else None


class Watch:
    """Looks at every row as it comes and says each finding once, until it is gone and comes back."""

    def __init__(self, rows: Sequence[Mapping] = ()):
        self.rows: list[Mapping] = list(rows)
        self.present: set[str] = set()

    def add(self, row: Mapping) -> list[Finding]:
        """The findings that are new with this row."""
        self.rows.append(row)
        found = examine(self.rows)
        new = [f for f in found if f.name not in self.present]
        self.present = {f.name for f in found}
        return new
