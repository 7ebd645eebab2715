"""Does any text make the parser fail, miscount, or be slow? Random answers, whole and damaged (see `fuzz_cases`).

    python benchmarks/fuzz.py --cases 1000000 --out fuzz.csv      # a quarter of an hour on one core
    python benchmarks/fuzz.py --cases 10000 --first 2000000        # others, quickly
    python benchmarks/fuzz.py --seed 0 --first 123 --cases 1       # one case again

Checked of every case:
1. `parse_completion` raises nothing.
2. Boxes are finite, ordered, inside the picture, of shape (P, 4), with a label and offsets in the text each.
3. Reasons are known codes in their order; where it is known how many items a text has, boxes and dropped items add up to it;
   where it is known which boxes it has, exactly these are found. Where the parser says that it has left items unread, some of
   them are; one "unread" may stand for a rest without any.
4. The format reward is 1 exactly if an independent reading of the strict grammar says so (unknown where Python's own decoder
   gives up for depth).
5. Time is at most `--limit` ms for a megabyte (a million characters). Seconds are the processor's, for this thread alone, so
   that other work on the machine hardly counts. A text below 20 000 characters counts as one of these: at the usual limit
   of 50 that is 1 ms, below which the clock and the first touch of memory are what is measured. A slow case is timed up to
   five times more, and as often again alone when all are through, and the best time counts: slow texts are slow every time, a
   busy machine is not.

Exit code 0: nothing found; 1: something, listed, with the texts in `--failures`; 2: bad input.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fuzz_cases import Case, make_case
from tqdm import tqdm

from vr1kit.completions import ANSWER_REASONS, REASONS, ParsedCompletion, parse_completion
from vr1kit.safekeeping.files import write_csv_atomic, write_json_atomic

SHORTEST = 20_000  # characters
CHUNK = 200  # cases
RETRIES = 5
SPANS_UP_TO = 200_000  # characters: offsets are read a second time, with nothing new to find in more of the same
SAVED, SLOWEST = 20, 5  # texts of wrong outcomes, and of slow ones


def strictly_well_formed(text: str, size: tuple[float, float]) -> bool | None:
    """The strict grammar of `vr1kit.completions`, written again with Python's decoder only; None where that gives up."""

    def refuse(_):
        raise ValueError

    body = text.strip(" \t\n\r")
    if body[:7] == "```json" and body[7:][-3:] == "```":
        body = body[7:-3]
    try:
        items = json.loads(body, parse_constant=refuse, parse_int=float)  # float: digits without limit
    except ValueError:
        return False
    except RecursionError:
        return None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return False
    for item in items:
        box = item.get("bbox_2d")
        if not isinstance(item.get("label"), str) or not isinstance(box, list) or [type(n) for n in box] != [float] * 4:
            return False
        if not (0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]):
            return False
    return True


def find_problems(case: Case, parsed: ParsedCompletion) -> list[str]:
    """What is wrong with the outcome; empty if nothing is."""
    boxes, reasons = parsed.boxes_xyxy, parsed.reasons
    if not (isinstance(boxes, np.ndarray) and boxes.dtype == np.float64 and boxes.ndim == 2 and boxes.shape[1] == 4):
        return [f"boxes are no (P, 4) floats: {boxes!r}"]
    problems = []
    low, high = boxes[:, :2], boxes[:, 2:]
    if not (np.isfinite(boxes).all() and (low >= 0).all() and (low < high).all() and (high <= case.size).all()):
        problems.append("a box is not finite, not ordered or outside")
    if len(parsed.labels) != len(boxes) or not all(isinstance(label, str) for label in parsed.labels):
        problems.append("labels do not match the boxes")
    of_answer = [reason for reason in reasons if reason in ANSWER_REASONS]
    dropped = len(reasons) - len(of_answer)
    if not set(reasons) <= set(REASONS) or of_answer != [code for code in ANSWER_REASONS if code in reasons[: len(of_answer)]]:
        problems.append(f"reasons are unknown or out of order: {reasons[:20]}")
    if parsed.dual_format != float(not reasons) or (parsed.template_ok and parsed.content_ok) != (not reasons):
        problems.append("format and reasons contradict each other")
    strict = strictly_well_formed(case.text, case.size)
    if strict is not None and parsed.dual_format != strict:
        problems.append(f"format is {parsed.dual_format}, the strict grammar says {strict}")
    unread = "unread" in reasons
    if case.items is not None and (len(boxes) + dropped > case.items + 1 if unread else len(boxes) + dropped != case.items):
        problems.append(f"{case.items} items, but {len(boxes)} boxes and {dropped} dropped: {reasons[:20]}")
    if case.boxes is not None and not (_are_among(boxes.tolist(), case.boxes) if unread else boxes.tolist() == case.boxes):
        problems.append(f"boxes should be {case.boxes[:5]}, are {boxes[:5].tolist()}")
    if len(case.text) <= SPANS_UP_TO and not _spans_hold(case.text, parsed):
        problems.append("an offset points to something else")
    return problems


def _are_among(boxes: list[list[float]], expected: list[list[float]]) -> bool:
    """Whether boxes are some of the expected ones, in their order."""
    rest = iter(expected)
    return all(box in rest for box in boxes)


def _spans_hold(text: str, parsed: ParsedCompletion) -> bool:
    if len(parsed.spans) != len(parsed.boxes_xyxy):
        return False
    for spans, box in zip(parsed.spans, parsed.boxes_xyxy.tolist(), strict=True):
        if [float(text[start:stop]) for start, stop in spans.numbers] != box or text[spans.item[0]] != "{":
            return False
        if not all(spans.item[0] < start < stop <= spans.item[1] for start, stop in (spans.label, *spans.numbers)):
            return False
    return True


def run_case(case: Case, limit: float = float("inf")) -> tuple[list[str], float, ParsedCompletion | None]:
    """(problems, milliseconds per megabyte, outcome)."""
    try:
        rate, parsed = _time(case)
        for _ in range(RETRIES):
            if rate <= limit:
                break
            rate = min(rate, _time(case)[0])
        return find_problems(case, parsed), rate, parsed
    except Exception:
        return ["raised: " + traceback.format_exc(limit=-3)], 0.0, None


def _time(case: Case) -> tuple[float, ParsedCompletion]:
    started = time.thread_time()
    parsed = parse_completion(case.text, case.size)
    return 1e3 * (time.thread_time() - started) / (max(len(case.text), SHORTEST) / 1e6), parsed


@dataclass
class Tally:
    """What a range of cases gave."""

    cases: Counter = field(default_factory=Counter)  # by kind, as are the next two
    characters: Counter = field(default_factory=Counter)
    slow: Counter = field(default_factory=Counter)
    worst: dict[str, tuple[float, int]] = field(default_factory=dict)  # kind -> (ms per MB, number)
    slowest: list[tuple[float, int]] = field(default_factory=list)  # of each slow case, the worst first
    counts: Counter = field(default_factory=Counter)  # well-formed, boxes, and every reason
    wrong: list[tuple[int, str]] = field(default_factory=list)  # number, problem

    def add(self, other: Tally) -> None:
        for name in ("cases", "characters", "slow", "counts"):
            getattr(self, name).update(getattr(other, name))
        for kind, worst in other.worst.items():
            self.worst[kind] = max(worst, self.worst.get(kind, worst))
        self.slowest = sorted([*self.slowest, *other.slowest], reverse=True)
        self.wrong += other.wrong


def run_range(task: tuple[int, int, int, float, int]) -> Tally:
    seed, first, stop, limit, largest = task
    tally = Tally()
    for number in range(first, stop):
        case = make_case(seed, number, largest)
        problems, rate, parsed = run_case(case, limit)
        one = Tally(Counter([case.kind]), Counter({case.kind: len(case.text)}))
        if rate > limit:
            one.slow[case.kind], one.slowest = 1, [(rate, number)]
        else:
            one.worst[case.kind] = rate, number
        if parsed is not None:
            one.counts.update(parsed.reasons)
            one.counts.update({"well-formed": int(parsed.dual_format), "boxes": len(parsed.boxes_xyxy)})
        one.wrong = [(number, problem) for problem in problems]
        tally.add(one)
    return tally


def time_again(total: Tally, seed: int, limit: float, largest: int) -> None:
    """Slow cases, alone."""
    again, total.slow, total.slowest = total.slowest, Counter(), []
    for before, number in tqdm(again, desc="slow ones again", disable=None):
        case = make_case(seed, number, largest)
        rate = min(before, run_case(case, limit)[1])
        total.worst[case.kind] = max((rate, number), total.worst.get(case.kind, (rate, number)))
        if rate > limit:
            total.slow[case.kind] += 1
            total.slowest.append((rate, number))


def run_all(seed: int, first: int, cases: int, workers: int, limit: float, largest: int) -> Tally:
    stop = first + cases
    tasks = [(seed, at, min(at + CHUNK, stop), limit, largest) for at in range(first, stop, CHUNK)]
    total = Tally()
    with tqdm(total=cases, unit="case", disable=None) as bar, multiprocessing.Pool(workers) as pool:
        for tally in pool.imap_unordered(run_range, tasks):
            total.add(tally)
            bar.update(tally.cases.total())
            bar.set_postfix(wrong=len(total.wrong), slow=total.slow.total())
    time_again(total, seed, limit, largest)
    total.wrong.sort()
    return total


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=50.0, help="ms for a megabyte (50)")
    parser.add_argument("--largest", type=int, default=4_000_000, help="characters of the largest junk (4 000 000)")
    parser.add_argument("--out", type=Path, help="write the summary there, as JSON; or its table, as CSV")
    parser.add_argument("--failures", type=Path, default=Path("fuzz_failures"), help="where texts go (fuzz_failures)")
    options = parser.parse_args(words)
    if min(options.cases, options.workers, options.largest) < 1 or options.first < 0:
        parser.error("--cases, --workers and --largest must be at least 1, --first at least 0")

    started = time.perf_counter()
    total = run_all(options.seed, options.first, options.cases, options.workers, options.limit, options.largest)
    print(f"{options.cases} cases from {options.first}, seed {options.seed}, in {time.perf_counter() - started:.0f} s\n")
    print(f"{'kind':<8}{'cases':>9}{'MB':>9}{'worst ms/MB':>13}{'over limit':>12}")
    for kind, (rate, _) in sorted(total.worst.items()):
        print(f"{kind:<8}{total.cases[kind]:>9}{total.characters[kind] / 1e6:>9.1f}{rate:>13.1f}{total.slow[kind]:>12}")
    print("\n" + ", ".join(f"{name} {count}" for name, count in total.counts.most_common()))

    saved: dict[int, str] = {}
    for number in [number for number, _ in total.wrong[:SAVED]] + [number for _, number in total.slowest[:SLOWEST]]:
        options.failures.mkdir(parents=True, exist_ok=True)
        saved[number] = str(options.failures / f"{options.seed}-{number}.txt")
        text = make_case(options.seed, number, options.largest).text
        Path(saved[number]).write_bytes(text.encode("utf-8", "surrogatepass"))
    for number, problem in total.wrong[:SAVED]:
        print(f"wrong: case {number}: {problem} ({saved[number]})")
    for rate, number in total.slowest[:SLOWEST]:
        print(f"slow: case {number}: {rate:.0f} ms/MB ({saved[number]})")
    print(f"{len(total.wrong)} wrong outcomes; {total.slow.total()} cases over {options.limit:g} ms/MB")
    if options.out and options.out.suffix == ".csv":
        rows = [
            {"kind": kind, "cases": total.cases[kind], "mb": round(total.characters[kind] / 1e6, 1), "worst_ms_per_mb": round(rate, 1),
             "over_limit": total.slow[kind], "wrong": len(total.wrong)}
            for kind, (rate, _) in sorted(total.worst.items())
        ]  # fmt: skip
        write_csv_atomic(options.out, rows)
    elif options.out:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        machine = {"python": platform.python_version(), "seconds": round(time.perf_counter() - started, 1)}
        write_json_atomic(options.out, {"settings": settings, **machine, "outcome": total})
    return 1 if total.wrong or total.slow.total() else 0


if __name__ == "__main__":
    sys.exit(main())
