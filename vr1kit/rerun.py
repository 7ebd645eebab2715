"""Repeat a run from its own record, and say what differs: in what it was made with, and in what came out.

    vr1kit rerun runs/NAME      ->      runs/NAME-rerun, and a list of differences

1. The commands come from the provenance of the steps. They are taken apart and only `study` and `reproduce` are repeated,
   in this process: a record is a file, and no file is handed to a shell.
2. Compared are results: every file of every step but provenance, times, and notebooks, which name their run. Of figures,
   what they show: run and commit are written into them.
3. The code is this checkout's. Where that is not the one recorded, it is said, with how to get the other.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vr1kit.runs import Run
from vr1kit.safekeeping.differences import list_changes, shorten
from vr1kit.safekeeping.files import RunError, read_json
from vr1kit.safekeeping.manifests import DIFF, LOG, MANIFEST, METRICS, PROVENANCE, is_result, read_manifest

REPEATED = ("study", "reproduce")
SURROUNDINGS = ("git_commit", "python", "packages", "platform", "cpu_model", "cpu_count", "torch_threads", "gpu")


def list_commands(run: Run, into: str) -> list[list[str]]:
    """The words after `vr1kit` of every command that made the run, in their order, with `into` for its name.

    What something else made, such as a notebook opened by hand, is left to the comparison, which misses it where no command makes
    it again; raises RunError if nothing can be repeated.
    """
    records = sorted((record for _, record in _read_records(run)), key=lambda record: str(record.get("start")))
    if not records:
        raise RunError(f"run '{run.name}' has no finished step to repeat")
    said = list(dict.fromkeys(str(record.get("command")) for record in records))
    commands = [[*_without_run(words), "--run", into] for words in map(_parse, said) if words is not None]
    if not commands:
        raise RunError(f"run '{run.name}' was made by `{'`, `'.join(said)}`, which can only be repeated by hand")
    return [words for index, words in enumerate(commands) if words not in commands[:index]]


def _parse(command: str) -> list[str] | None:
    try:
        program, *words = shlex.split(command)
    except ValueError:
        return None
    if program == "make" and words[:1] == ["reproduce"]:
        given = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        return ["reproduce", "--run", given.get("RUN", "tiny"), "--profile", given.get("PROFILE", "tiny")]
    return words if program in ("vr1kit", "cli.py") and words and words[0] in REPEATED else None


def _without_run(words: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if not skip and word != "--run" and not word.startswith("--run=") and word != "--force":
            kept.append(word)
        skip = word == "--run"
    return kept


@dataclass
class Comparison:
    """Two runs, step by step."""

    steps: int
    files: int
    surroundings: list[str]  # what they were made with
    results: list[str]  # what came out


def compare_runs(old: Run, new: Run) -> Comparison:
    """What differs between the finished steps of `old` and the steps of the same names of `new`."""
    before, after = dict(_read_records(old)), dict(_read_records(new))
    around = [{key: record.get(key) for key in SURROUNDINGS} for record in (*before.values(), *after.values())]
    surroundings = dict.fromkeys(
        change
        for a, b in zip(around[: len(before)], [after.get(name) for name in before], strict=True)
        if b is not None
        for change in list_changes(a, {key: b.get(key) for key in SURROUNDINGS})
    )
    names = [name for name in before if not name.startswith("notebooks/")]
    results, files = [], 0
    for name in names:
        if name not in after:
            results.append(f"{name}: was not made")
            continue
        manifests = read_manifest(old.path / name), read_manifest(new.path / name)
        files += sum(map(is_result, manifests[0]["artefacts"]))
        results += [f"{name}: {difference}" for difference in _compare_step(old, new, name, *manifests)]
    if any(record.get("git_dirty") for record in before.values()):
        surroundings[f"the first was made with changes to its commit, kept as {DIFF} in its steps"] = None
    return Comparison(len(names), files, list(surroundings), results)


def _compare_step(old: Run, new: Run, name: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    if changes := list_changes(before["config"], after["config"]):
        yield "config: " + shorten(changes)
    if modules := sorted(m for m, _ in set(before["code"].items()) ^ set(after["code"].items())):
        yield "other code: " + shorten(list(dict.fromkeys(modules)))
    for key, made in before["inputs"].items():
        if "step" not in made and after["inputs"].get(key) != made:
            yield f"other input {key}"
    hashes = [{file: item["sha256"] for file, item in m["artefacts"].items()} for m in (before, after)]
    for file in sorted(set(hashes[0]) | set(hashes[1])):
        if not is_result(file) and file != LOG:
            continue
        if file not in hashes[0] or file not in hashes[1]:
            yield f"{file} was {'added' if file not in hashes[0] else 'not made'}"
        elif hashes[0][file] != hashes[1][file] and (difference := _compare_file(old, new, name, file)):
            yield f"{file}: {difference}"


def _compare_file(old: Run, new: Run, name: str, file: str) -> str | None:
    """In words how two files of different bytes differ; None if only in times, or in which run and commit a drawing names."""
    paths = [run.path / name / file for run in (old, new)]
    if not all(path.is_file() for path in paths):
        return "differs"
    if file == METRICS:
        return shorten(list_changes(*(_without_times(read_json(path)) for path in paths))) or None
    if file == LOG:
        logs = [[_without_times(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] for path in paths]
        for a, b in zip(*logs, strict=False):
            if a != b:
                return f"from step {a.get('step')} on: " + shorten(list_changes(a, b))
        return None if len(logs[0]) == len(logs[1]) else f"{len(logs[0])} rows, then {len(logs[1])}"
    if file.endswith((".png", ".pdf")):
        return None if _read_drawing(paths[0]) == _read_drawing(paths[1]) else "shows something else"
    if file.endswith((".csv", ".jsonl", ".json", ".md")):
        lines = [path.read_text(encoding="utf-8").splitlines() for path in paths]
        unequal = sum(a != b for a, b in zip(*lines, strict=False)) + abs(len(lines[0]) - len(lines[1]))
        return f"{unequal} of {max(map(len, lines))} lines differ"
    return "differs"


_PDF_OBJECT = re.compile(rb"\d+ 0 obj\b.*?\bendobj", re.DOTALL)


def _read_drawing(path: Path) -> list[bytes]:
    """The parts of a PNG or PDF file but for those in which it says where it came from."""
    data = path.read_bytes()
    if path.suffix == ".pdf":
        return [part for part in _PDF_OBJECT.findall(data) if b"/Creator" not in part]
    parts, start = [], 8
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")  # length, kind, content, sum
        if data[start + 4 : start + 8] not in (b"tEXt", b"iTXt"):
            parts.append(data[start:end])
        start = end
    return parts


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.endswith("seconds")}


def _read_records(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, provenance) of every finished step."""
    for name in run.step_names():
        folder = run.path / name
        if (folder / MANIFEST).is_file() and (folder / PROVENANCE).is_file():
            record = read_json(folder / PROVENANCE)
            if not isinstance(record, dict):
                raise RunError(f"{folder / PROVENANCE} is not what vr1kit wrote there; delete its step to have it made again")
            yield name, record
