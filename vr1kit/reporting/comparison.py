"""Comparison: two evaluations of one set, what is different between them, and how sure that is.

    compared = compare(read_evaluation("runs/before"), read_evaluation("runs/after"))
    compared.rows          # {metric, before, after, difference, low, high}
    write_comparison(compared, "runs/after/before_after.html")

Intervals are 95 % and paired: both see the same resampled pictures. Accuracies are resampled by picture too, with all that is asked
about it.

Only answers to the same questions about the same truth compare: other objects, or another protocol, are refused. Another way of
scoring boxes is said. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vr1kit.drawing.pictures import judge_answer
from vr1kit.evaluations import BESIDE, STEP, read_evaluation, settings_of
from vr1kit.measures.accuracy import count_by_picture, find_accuracy
from vr1kit.measures.errors import by_number, by_size, compare_errors, count_changes, find_errors
from vr1kit.measures.intervals import Matches, accumulate_categories, bootstrap_suite, draw_weights
from vr1kit.measures.outcomes import find_outcomes
from vr1kit.measures.protocols import mean_over_sets, set_gains
from vr1kit.measures.resampling import RESAMPLES, find_interval, load_parts, resample_numbers
from vr1kit.reporting.gallery import CSS as GALLERY_CSS
from vr1kit.reporting.gallery import Card, draw_cards, read_thumbnail
from vr1kit.reporting.page import missing, page, table, text
from vr1kit.runs import Step
from vr1kit.safekeeping.files import RunError, read_csv, read_json, write_text_atomic
from vr1kit.safekeeping.manifests import PROVENANCE

NUMBERS = {  # what the first table says, by kind
    "detection": "In percent. AP is the mean over IoU 0.50 to 0.95, AP50 and AP75 are at one of them; AR is recall with at most 1, 10 or "
    "100 boxes of a category in a picture. s, m and l are objects of less than 32², of up to 96² and of more pixels.",
    "referring": "Expressions whose first box has an IoU of at least 0.5 with the object, in percent.",
    "questions": "Questions that were answered right, in percent.",
}
ERRORS = "Boxes that are wrong, and objects that were missed, at IoU 0.5. dAP: the points of AP50 to be had by mending this kind alone."
SHOWN = 60  # pictures of a gallery; ours: what a mail can carry
SAME = ("kind", "protocol", "limit")  # settings that must agree


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two evaluations and what changed. Rows are dictionaries; values in percent."""

    before: Step
    after: Step
    notes: tuple[str, ...]
    rows: list[dict]  # metric, before, after, difference, low, high
    groups: list[dict]  # the same with `group`: of each category (AP), or of each kind of question
    errors: list[dict]  # errors.compare_errors; empty unless detection
    errors_by_size: list[dict]
    errors_by_number: list[dict]
    changes: list[dict]  # errors.count_changes
    cards: list[Card]  # pictures whose answers changed most, most first

    @property
    def names(self) -> tuple[str, str]:
        one, other = self.before.run.name, self.after.run.name
        return (one, other) if one != other else (f"{one} (before)", f"{other} (after)")


def compare(before: Step, after: Step, resamples: int = RESAMPLES, seed: int = 0, shown: int = SHOWN) -> Comparison:
    """Raises RunError where the two were not asked the same about the same."""
    notes = _check_same(before, after)
    judge = _compare_detections if before.config["kind"] == "detection" else _compare_accuracies
    return Comparison(before, after, notes, *judge(before, after, resamples, seed, shown))


def _check_same(before: Step, after: Step) -> tuple[str, ...]:
    for key in SAME:
        one, other = before.config.get(key), after.config.get(key)
        if one != other:
            what = "protocols do not compare" if key == "protocol" else "they were not asked the same"
            raise RunError(f"{before.run.name} has {key} {one}, {after.run.name} {other}: {what}; evaluate both alike")
    if before.inputs["truth"] != after.inputs["truth"]:
        raise RunError(f"{before.run.name} and {after.run.name} were tested on different data; evaluate both on one set")
    scores = [settings_of(s).score_name for s in (before, after)]
    if before.config["kind"] == "detection" and scores[0] != scores[1]:
        return (f"boxes were scored differently, {scores[0]} before and {scores[1]} after: AP tells both apart",)
    return ()


def _row(metric: str, before: float | None, after: float | None, drawn: np.ndarray | None = None) -> dict:
    known = before is not None and after is not None
    low, high = (None if drawn is None else find_interval(drawn)) or (None, None)
    difference = after - before if known else None
    return {"metric": metric, "before": before, "after": after, "difference": difference, "low": low, "high": high}


# --- detection -----------------------------------------------------------------------------------------------------------


def _compare_detections(before: Step, after: Step, resamples: int, seed: int, shown: int) -> tuple:
    parts = [load_parts(s.path) for s in (before, after)]
    weights = draw_weights(len(parts[0]["all"].truths), resamples, np.random.default_rng(seed))
    by_category = [accumulate_categories(p["all"], weights) for p in parts]
    one, other = (resample_numbers(p, weights, found) for p, found in zip(parts, by_category, strict=True))
    values = before.metrics(), after.metrics()
    rows = [
        _row(name, values[0][name], values[1][name], other[name] - one[name] if name in one and name in other else None)
        for name in values[0]
        if name not in BESIDE
    ]
    drawn = 100 * (by_category[1][0] - by_category[0][0]).mean(axis=0)  # (B, C)
    tables = [read_csv(s.path / "categories.csv") for s in (before, after)]
    groups = [
        {"group": str(b["category"]), **_row("AP", b["AP"], a["AP"], drawn[:, k])}
        for k, (b, a) in enumerate(zip(*tables, strict=True))
        if b["AP"] is not None
    ]
    groups.sort(key=lambda row: -row["difference"])
    truth, found = read_json(before.path / "truth.json"), [read_json(s.path / "detections.json") for s in (before, after)]
    errors = [find_errors(find_outcomes(truth, f, (0.5,))) for f in found]
    tables = [compare_errors(*errors, grouping) for grouping in (None, by_size, by_number)]
    return rows, groups, *tables, count_changes(*errors), _find_cards(before, after, truth, found, shown)


def _find_cards(before: Step, after: Step, truth: Mapping, found: Sequence[Sequence[Mapping]], shown: int) -> list[Card]:
    """The pictures whose answers changed most in quality, most first; equal ones in the order of the set."""
    names = {c["id"]: str(c["name"]) for c in truth["categories"]}
    of_picture = [_by_picture([a for a in truth["annotations"] if not a.get("iscrowd")], names)]
    of_picture += [_by_picture(f, names) for f in found]
    ranked = []
    for image in truth["images"]:
        objects, one, other = (rows.get(image["id"], ([], [])) for rows in of_picture)
        if one != other:
            judged = [judge_answer(*answer, *objects) for answer in (one, other)]
            ranked.append((image, objects, (one, other), judged))
    ranked.sort(key=lambda row: -abs(row[3][1].quality - row[3][0].quality))
    folder = Path(before.config["data"])
    folder = folder.parent if folder.suffix == ".json" else folder
    return [
        Card(
            str(image["file_name"]), read_thumbnail(folder / image["file_name"]), (image["width"], image["height"]),
            objects, answers, tuple(judged),
        )
        for image, objects, answers, judged in ranked[:shown]
    ]  # fmt: skip


def _by_picture(rows: Sequence[Mapping], names: Mapping[Any, str]) -> dict[Any, tuple[list, list]]:
    """image_id -> (boxes_xyxy_px, labels)."""
    found: dict[Any, tuple[list, list]] = {}
    for row in rows:
        x, y, w, h = row["bbox"]
        boxes, labels = found.setdefault(row["image_id"], ([], []))
        boxes.append([x, y, x + w, y + h])
        labels.append(names[row["category_id"]])
    return found


# --- several sets --------------------------------------------------------------------------------------------------------


def read_sets(folder: str | os.PathLike) -> dict[str, Step]:
    """The evaluations in the subfolders of a folder, by name: one for each set of ODINW, say. Empty where there are none."""
    folder = Path(folder)
    found = sorted(p for p in folder.iterdir() if (p / STEP).is_dir()) if folder.is_dir() else []
    return {path.name: read_evaluation(path) for path in found}


def compare_sets(before: Mapping[str, Step], after: Mapping[str, Step], resamples: int = RESAMPLES, seed: int = 0) -> list[dict]:
    """AP of each set, largest gain first, and of their mean, below: rows {metric, before, after, difference, low, high}.

    The pictures of every set are resampled. Raises RunError where a pair does not compare or a set is missing, ProtocolError for
    sets that were asked or scored differently.
    """
    if before.keys() != after.keys():
        raise RunError(f"only one of the two has {', '.join(sorted(before.keys() ^ after.keys()))}; evaluate both on all sets")
    for name in before:
        _check_same(before[name], after[name])
    tables = [[_to_row(name, step) for name, step in steps.items()] for steps in (before, after)]
    rows = []
    for gain in set_gains(*tables):
        name = gain["set"]
        drawn = _draw_means({name: before[name]}, {name: after[name]}, resamples, seed)
        rows.append(_row(name, gain["before"], gain["after"], drawn))
    means = [mean_over_sets(table)["value"] for table in tables]
    return [*rows, _row(f"mean of {len(before)}", *means, _draw_means(before, after, resamples, seed))]


def average_sets(steps: Mapping[str, Step], resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """The mean AP of several sets, a row of `mean_over_sets` with the ends of its interval, low and high."""
    mean = mean_over_sets([_to_row(name, step) for name, step in steps.items()])
    loaded = {name: Matches.load(step.path / "matches.npz") for name, step in steps.items()}
    low, high = find_interval(bootstrap_suite({"mean": [loaded]}, resamples=resamples, seed=seed)["mean"]["AP"]) or (None, None)
    return {**mean, "metric": f"mean of {len(steps)}", "low": low, "high": high}


def _to_row(name: str, step: Step) -> dict:
    if step.config["kind"] != "detection":
        raise RunError(f"{name} is no detection set; compare expressions and questions one by one")
    m, settings = step.metrics(), settings_of(step)
    asked = {"protocol": settings.protocol, "score": settings.score_name, "metric": "AP"}
    return {"set": name, **asked, "value": m["AP"], "n_images": len(Matches.load(step.path / "matches.npz").truths)}


def _draw_means(before: Mapping[str, Step], after: Mapping[str, Step], resamples: int, seed: int) -> np.ndarray:
    loaded = [{name: Matches.load(step.path / "matches.npz") for name, step in steps.items()} for steps in (before, after)]
    drawn = bootstrap_suite({"before": [loaded[0]], "after": [loaded[1]]}, resamples=resamples, seed=seed)
    return drawn["after"]["AP"] - drawn["before"]["AP"]


# --- expressions and questions -------------------------------------------------------------------------------------------


def _compare_accuracies(before: Step, after: Step, resamples: int, seed: int, shown: int) -> tuple:
    tables = [read_csv(s.path / "rows.csv") for s in (before, after)]
    pictures = list(dict.fromkeys(row["image_id"] for row in tables[0]))
    weights = draw_weights(len(pictures), resamples, np.random.default_rng(seed))

    def contrast(kind: str | None) -> dict:
        chosen = [[r for r in rows if kind in (None, str(r["kind"]))] for rows in tables]
        counts = [count_by_picture(rows, pictures) for rows in chosen]
        values = [float(find_accuracy(c)[0]) for c in counts]
        drawn = [find_accuracy(c, weights) for c in counts]
        return _row("accuracy", *values, drawn[1] - drawn[0])

    kinds = list(dict.fromkeys(str(row["kind"]) for row in tables[0]))
    groups = [{"group": kind, **contrast(kind)} for kind in kinds] if len(kinds) > 1 else []
    states = [["right" if row["right"] else "wrong" for row in rows] for rows in tables]
    pairs = list(zip(*states, strict=True))
    changes = [{"before": b, "after": a, "objects": pairs.count((b, a))} for b, a in dict.fromkeys(pairs)]
    return [contrast(None)], groups, [], [], [], sorted(changes, key=lambda row: -row["objects"]), []


# --- showing -------------------------------------------------------------------------------------------------------------


def print_row(row: Mapping) -> tuple[str, str, str, str]:
    """(before, after, difference, its interval) as text."""
    say = lambda value, form: "-" if value is None else format(value, form)  # noqa: E731
    ends = "" if row["low"] is None else f"[{row['low']:+.1f}, {row['high']:+.1f}]"
    return say(row["before"], ".1f"), say(row["after"], ".1f"), say(row["difference"], "+.1f"), ends


def describe_comparison(compared: Comparison, most: int = 5) -> list[str]:
    """Lines for a terminal."""
    one, other = compared.names
    lines = [f"{one} -> {other}, difference with its 95 % interval (paired bootstrap over pictures)"]
    lines += [f"  note: {note}" for note in compared.notes]
    rows = list(compared.rows)
    if compared.groups:
        chosen = compared.groups if len(compared.groups) <= 2 * most else [*compared.groups[:most], *compared.groups[-most:]]
        rows += [{**row, "metric": f"{row['metric']} {row['group']}"} for row in chosen]
    lines += describe_rows(rows)
    wide = max(len(row["metric"]) for row in rows)
    for row in compared.errors:
        lines.append(
            f"  {row['kind'].replace('_', ' '):<{wide}}  {row['before']:>6} -> {row['after']:>6}  {row['difference']:>+6}  errors"
        )
    return lines


def describe_rows(rows: Sequence[Mapping]) -> list[str]:
    """Lines for a terminal: name, before -> after, difference, interval."""
    wide = max(len(row["metric"]) for row in rows)
    cells = [(row["metric"], *print_row(row)) for row in rows]
    return [f"  {name:<{wide}}  {b:>6} -> {a:>6}  {d:>6}  {ends}".rstrip() for name, b, a, d, ends in cells]


def write_comparison(compared: Comparison, path: str | os.PathLike) -> Path:
    """One HTML page: the numbers, the errors and the gallery, sortable; it needs neither network nor scripts."""
    path, (one, other) = Path(path), compared.names
    heads = ("", one, other, "difference", "95 % interval")
    kind = compared.before.config["kind"]
    sections = [("Numbers", _note(NUMBERS[kind]) + _table(heads, [(row["metric"], *print_row(row)) for row in compared.rows]))]
    if compared.groups:
        what = "Category by category, AP" if compared.errors else "Kind by kind"
        sections.append((what, _table(heads, [(row["group"], *print_row(row)) for row in compared.groups])))
    for title, says, rows in (
        ("Errors", ERRORS, compared.errors),
        (
            "Errors by size of the object",
            "By share of the picture: small under 0.33 %, large from 3 % on, which is what COCO's limits are at 640 × 480.",
            compared.errors_by_size,
        ),
        ("Errors by number of objects in the picture", "", compared.errors_by_number),
    ):
        if rows:
            shown = [
                (f"{r['group']}: {r['kind']}".removeprefix("all: ").replace("_", " "), str(r["before"]), str(r["after"]), f"{r['difference']:+d}",
                 *("" if r[k] is None else f"{r[k]:.1f}" for k in ("dAP_before", "dAP_after")))
                for r in rows if r["before"] or r["after"]
            ]  # fmt: skip
            table_ = _table(("", one, other, "difference", f"dAP {one}", f"dAP {other}"), shown)
            sections.append((title, _note(says) * bool(says) + table_))
    moved = [(r["before"].replace("_", " "), r["after"].replace("_", " "), str(r["objects"])) for r in compared.changes]
    sections.append(
        ("What became of the same objects" if compared.errors else "Answers", _table((one, other, "number"), moved, 2))
    )
    if compared.before.config["kind"] == "detection":
        shown = draw_cards(compared.cards, (one, other)) if compared.cards else missing("No answer is different.")
        sections.append((f"The {len(compared.cards)} pictures whose answers changed most", shown))
    sections.append(("What was compared", _describe_both(compared)))
    c = compared.before.config
    how = f", protocol {c['protocol']}" if c["kind"] == "detection" else ""
    header = f'<p class="sub">{text(c["set"])}: {text(c["kind"] + how)}. {text(" ".join(compared.notes))}</p>\n'
    write_text_atomic(path, page(f"{one} → {other}", header, sections, GALLERY_CSS))
    return path


def write_set_comparison(
    before: Mapping[str, Step],
    after: Mapping[str, Step],
    rows: Sequence[Mapping],
    path: str | os.PathLike,
    resamples: int = RESAMPLES,
) -> Path:
    """A page of the rows of `compare_sets`, in which each set leads to a page of its own, in its folder of `after`."""
    path = Path(path)
    links = {}
    for name in tqdm(before, desc="pages", unit="set", disable=None):
        inner = write_comparison(compare(before[name], after[name], resamples), after[name].run.path / path.name)
        links[name] = f'<a href="{text(Path(os.path.relpath(inner, path.parent)).as_posix())}">{text(name)}</a>'
    cells = [[links.get(row["metric"], text(row["metric"])), *map(text, print_row(row))] for row in rows]
    body = table(("set", "before", "after", "difference", "95 % interval"), cells, numbers=range(1, 5))
    header = f'<p class="sub">AP in percent, protocol {text(next(iter(after.values())).config["protocol"])}</p>\n'
    write_text_atomic(path, page(f"{len(before)} sets, before and after", header, [("Set by set", body)]))
    return path


def _note(says: str) -> str:
    return f'<p class="note">{text(says)}</p>\n'


def _describe_both(compared: Comparison) -> str:
    """Models, settings and commits, and what was odd about the answers."""
    steps = (compared.before, compared.after)
    rows = [("model", *(s.config["model"] for s in steps)), ("data", *(s.config["data"] for s in steps))]
    if compared.before.config["kind"] == "detection":
        rows.append(("score of boxes", *(settings_of(s).score_name for s in steps)))
    records = [read_json(s.path / PROVENANCE) if (s.path / PROVENANCE).is_file() else {} for s in steps]
    rows.append(("commit", *(str(r.get("git_commit") or "unknown")[:10] for r in records)))
    counts = [s.metrics()["counts"] for s in steps]
    names = [name for name in dict.fromkeys((*counts[0], *counts[1])) if any(c.get(name) for c in counts)]
    rows += [(name.replace("_", " "), *(str(c.get(name, 0)) for c in counts)) for name in names]
    return _table(("", *compared.names), rows, 3)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], first: int = 1) -> str:
    """Columns from `first` on are numbers."""
    return table(heads, [[text(cell) for cell in row] for row in rows], numbers=range(first, len(heads)))
