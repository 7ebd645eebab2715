"""Run folders: where results live, and how the kit knows that they are still good.

    runs/NAME/STEP/manifest.json exists and agrees with the request   <=>   STEP is done

A *run* is one folder under `runs/`. A *step* is one folder in it, made by one call with one `config`:

    step = open_run("tiny").step("policies/mixed/seed0/vision_r1", config, inputs={"data": data_step})
    if step.state() != "done":                # "missing" or "stale"; step.why() says why, in a sentence
        step.begin()                          # True if an interrupted attempt is being resumed
        step.append_log({"step": 1, "reward": 0.5})
        step.finish({"AP": 45.3})             # metrics.json, provenance.json, and manifest.json last

1. A step is done because its manifest says so; the manifest is written last and atomically, so a killed
   process never leaves half a result that looks whole.
2. It is stale when its config, its inputs, the package's code or its own files have changed. Where the environment variable
   VR1KIT_AS_IS is set, only its own files count: what is finished stays, and its record still says what made it.
3. An interrupted attempt keeps `checkpoints/` and `log.jsonl` only if the next attempt asks for the same.
4. A folder holding a file `FROZEN` (such as runs/published) is read-only: its results are taken as they are.
5. A step is locked from `begin` until `finish` or the end of the process; another process is told who holds it.

Needs nothing but the standard library and numpy; never imports torch.
"""

import difflib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from vr1kit import __version__
from vr1kit.safekeeping import disks, locks, provenance
from vr1kit.safekeeping.differences import list_changes, shorten
from vr1kit.safekeeping.files import (
    RunError,
    file_hash,
    read_csv,
    read_json,
    sync_paths,
    to_jsonable,
    write_csv_atomic,
    write_json_atomic,
    write_text_atomic,
)
from vr1kit.safekeeping.manifests import (
    ATTEMPT,
    CHECKPOINTS,
    DIFF,
    FORMAT,
    LOG,
    MANIFEST,
    METRICS,
    PROVENANCE,
    OtherVersion,
    find_steps,
    fingerprint,
    read_attempt,
    read_manifest,
    results_hash,
)  # fmt: skip
from vr1kit.safekeeping.places import find_run_folder, project_root, runs_root

__all__ = ["Run", "RunError", "Step", "open_run", "project_root", "read_csv", "read_json", "runs_root",
           "write_csv_atomic", "write_json_atomic"]  # fmt: skip

LOCKS = ".locks"
AS_IS = "VR1KIT_AS_IS"
LOCK_WAIT = 25.0  # s: a killed run's workers may still be saving (interruption.GRACE)
NAME_RULE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")

State = Literal["done", "missing", "stale"]


# --- runs ------------------------------------------------------------------------------------------------------


def check_name(name: str, what: str = "run name") -> str:
    if not isinstance(name, str) or not NAME_RULE.fullmatch(name):
        raise RunError(
            f"{what} {name!r} is not usable: take letters, digits, '.', '_' and '-', without a leading dot, e.g. 'tiny'"
        )
    return name


def open_run(name: str) -> "Run":
    """The run of that name; nothing is created before its first step begins."""
    return Run(name, find_run_folder(check_name(name)))


@dataclass(frozen=True)
class Run:
    name: str
    path: Path

    @property
    def frozen(self) -> bool:
        return (self.path / "FROZEN").exists()

    def locked(self) -> AbstractContextManager:
        """Nobody else may make things in this run meanwhile; gives who did so last and was killed. A frozen run needs none."""
        return nullcontext() if self.frozen else locks.locked(self.path / ".lock", f"run '{self.name}'")

    def freeze(self, note: str) -> None:
        """Make the run read-only; the note says what it holds and how it was made."""
        write_text_atomic(self.path / "FROZEN", note.rstrip() + "\n")

    def step(
        self,
        name: str,
        config: Any,
        inputs: Mapping[str, "Step | str"] | None = None,
        code: Sequence[str] | None = None,
    ) -> "Step":
        """The step as it is asked for now.

        `inputs` are earlier steps, or hashes. `code` narrows the modules it depends on, by default all that can
        change a number, to the named ones and what they import: code=["evaluate"].
        """
        for part in name.split("/"):
            check_name(part, f"step name {name!r}: part")
        if unknown := sorted(set(code or ()) - set(provenance.module_paths())):
            raise ValueError(f"step '{name}' depends on the module vr1kit.{unknown[0]}, which does not exist")
        step = Step(self, name, to_jsonable(config), dict(inputs or {}), None if code is None else tuple(code))
        if self.frozen and not step.has(MANIFEST):
            raise RunError(f"run '{self.name}' is frozen and has no step '{name}': use another run name, e.g. 'tiny'")
        self.trace(name)
        return step

    def trace(self, name: str) -> None:
        """Note that a step is used, for `vr1kit.reproduce`, which asks every notebook by the environment variable VR1KIT_TRACE."""
        if trace := os.environ.get("VR1KIT_TRACE"):
            with open(trace, "a", encoding="utf-8") as file:
                file.write(json.dumps([self.name, name]) + "\n")

    def step_names(self) -> list[str]:
        """Every step that has been begun, whatever became of it; another process may be at work on some of them."""
        return find_steps(self.path)

    def find(self, name: str) -> "Step":
        """A step as it was asked for when it was made."""
        for mark, read in ((MANIFEST, read_manifest), (ATTEMPT, read_attempt)):
            if (self.path / name / mark).is_file():
                record = read(self.path / name)
                inputs = {key: _find_input(item) for key, item in record["inputs"].items()}
                modules = record["code_of"]
                return Step(self, name, record["config"], inputs, None if modules is None else tuple(modules))
        alike = difflib.get_close_matches(name, self.step_names(), 3, 0.5) or self.step_names()[:5]
        there = f"among its {len(self.step_names())} are: {', '.join(alike)}" if alike else "it has none yet"
        raise RunError(f"run '{self.name}' has no step '{name}'; {there}")


def _find_input(item: Mapping[str, str]) -> "Step | str":
    if "step" not in item:
        return item["hash"]
    run = open_run(item["run"])
    begun = any((run.path / item["step"] / mark).is_file() for mark in (MANIFEST, ATTEMPT))
    return run.find(item["step"]) if begun else "gone"


# --- steps -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One folder of results, asked for with one config. Made by `Run.step`."""

    run: Run
    name: str
    config: Any
    inputs: Mapping[str, "Step | str"]
    code_of: tuple[str, ...] | None

    @property
    def path(self) -> Path:
        return self.run.path / self.name

    def has(self, file_name: str) -> bool:
        return (self.path / file_name).is_file()

    # what it depends on ------------------------------------------------------------------------------------------

    def request(self) -> dict[str, Any]:
        """All that the result depends on, as it stands now."""
        return {
            "config": self.config,
            "inputs": {key: _describe_input(item) for key, item in sorted(self.inputs.items())},
            "code_of": None if self.code_of is None else sorted(self.code_of),
            "code": provenance.code_hashes(self.code_of),
        }

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.request())

    def output_hash(self) -> str:
        """Hash of what the step made (log and provenance aside), or of what it will be made from."""
        if self.has(MANIFEST):
            manifest = read_manifest(self.path)
            if self.run.frozen or os.environ.get(AS_IS) or manifest["fingerprint"] == self.fingerprint:
                return results_hash(manifest)
        return f"pending:{self.fingerprint}"

    # what state it is in -----------------------------------------------------------------------------------------

    def state(self) -> State:
        return self._judge()[0]

    def why(self) -> str:
        """One sentence: why the step must run, or that it need not."""
        return self._judge()[1]

    def _judge(self) -> tuple[State, str]:
        if not self.has(MANIFEST):
            return "missing", self._why_missing()
        if self.run.frozen:
            return "done", "published result, taken as it is"
        try:
            manifest = read_manifest(self.path)
        except OtherVersion:
            raise
        except RunError:
            return "stale", "its manifest.json is damaged"
        as_is = bool(os.environ.get(AS_IS))
        if why := self._why_otherwise(manifest) if not as_is else "":
            return "stale", why
        for name, item in manifest["artefacts"].items():
            path = self.path / name
            if not path.is_file():
                return "stale", f"artefact {name} is missing"
            if path.stat().st_size != item["size"] or file_hash(path) != item["sha256"]:
                return "stale", f"artefact {name} was altered"
        return "done", "done, taken as it is" if as_is else "done and unchanged"

    def _why_otherwise(self, manifest: Mapping[str, Any]) -> str:
        """What this step is asked for that the finished one was not made with; "" if nothing."""
        request = self.request()
        if changes := list_changes(manifest["config"], request["config"]):
            return "config changed: " + shorten(changes)
        for key in sorted(set(manifest["inputs"]) | set(request["inputs"])):
            old, new = manifest["inputs"].get(key), request["inputs"].get(key)
            if old is None or new is None:
                return f"input {key} was {'added' if old is None else 'dropped'}"
            if old["hash"] != new["hash"]:
                return f"input {key} changed"
        names = sorted(name for name, _ in set(manifest["code"].items()) ^ set(request["code"].items()))
        return "code changed since: " + shorten(list(dict.fromkeys(names))) if names else ""

    def _why_missing(self) -> str:
        if not self.has(ATTEMPT):
            return "has not run yet"
        if not self.is_same_attempt():
            return "an attempt with other settings was interrupted; it starts afresh"
        resumes = (self.path / CHECKPOINTS).is_dir()
        return f"was interrupted; it {'resumes from its checkpoints' if resumes else 'starts again'}"

    def is_same_attempt(self) -> bool:
        """Was the attempt that was interrupted asked for as this one is?"""
        try:
            return read_attempt(self.path)["fingerprint"] == self.fingerprint
        except RunError:
            return False  # damaged record: treat as somebody else's

    # making it ---------------------------------------------------------------------------------------------------

    def begin(self, needed_bytes: int = 2**20) -> bool:
        """Lock and ready the folder; True if an interrupted attempt with the same fingerprint left checkpoints to resume.

        `needed_bytes`: an estimate of what will be written; DiskFull if there is no room for it.
        """
        if self.run.frozen:
            raise RunError(f"run '{self.run.name}' is frozen: use another run name to compute '{self.name}'")
        self._refuse_nesting()
        locks.acquire(self._lock, f"step '{self.name}' of run '{self.run.name}'", LOCK_WAIT)
        (self.path / MANIFEST).unlink(missing_ok=True)
        same = self.has(ATTEMPT) and self.is_same_attempt()
        resumed = same and (self.path / CHECKPOINTS).is_dir()
        earlier = _earlier_seconds(self.path) if resumed else 0.0
        if self.path.exists():
            for item in self.path.iterdir():
                if not (resumed and item.name in (CHECKPOINTS, LOG, ATTEMPT)):
                    shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        disks.require_space(self.path, needed_bytes, f"step '{self.name}'")  # after the leavings of an earlier attempt are gone
        if resumed and self.has(LOG):
            self.trim_log(lambda row: True)
        if diff := provenance.diff_code():
            write_text_atomic(self.path / DIFF, diff)
        request = self.request()
        write_json_atomic(self.path / ATTEMPT, {
            "format": FORMAT, "vr1kit": __version__, "step": self.name, "fingerprint": fingerprint(request), **request,
            "started": time.time(), "earlier_seconds": earlier, **provenance.describe_code(),
        })  # fmt: skip
        return resumed

    @property
    def _lock(self) -> Path:
        return self.run.path / LOCKS / (self.name.replace("/", "+") + ".lock")

    def _refuse_nesting(self) -> None:
        for other in self.run.step_names():
            if self.name.startswith(other + "/") or other.startswith(self.name + "/"):
                raise RunError(f"steps '{self.name}' and '{other}' would lie one inside the other: rename one")

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Record metrics and provenance, hash every file, and write the manifest last: from now on it is done."""
        self._require_begun()
        attempt = read_attempt(self.path)
        write_json_atomic(self.path / METRICS, metrics)
        now = time.time()
        config = self.config if isinstance(self.config, dict) else {}
        write_json_atomic(self.path / PROVENANCE, {
            "command": provenance.describe_command(), "seed": config.get("seed"),
            "start": _iso(attempt["started"]), "end": _iso(now),
            "seconds": round(now - attempt["started"] + attempt["earlier_seconds"], 2),
            "resumed": attempt["earlier_seconds"] > 0, "peak_memory_mib": provenance.peak_memory_mib(),
            "git_commit": attempt["git_commit"], "git_dirty": attempt["git_dirty"], "config": attempt["config"],
            "inputs": attempt["inputs"], **provenance.describe_machine(),
        })  # fmt: skip
        made = sorted(path for path in self.path.rglob("*") if path.is_file() and self._is_artefact(path))
        sync_paths((*made, *{path.parent for path in made}))  # a power cut must not leave a manifest without its files
        artefacts = {
            path.relative_to(self.path).as_posix(): {"sha256": file_hash(path), "size": path.stat().st_size} for path in made
        }
        # What the attempt began with, not what the code or inputs have become while it ran.
        kept = ("format", "vr1kit", "step", "fingerprint", "config", "inputs", "code_of", "code")
        write_json_atomic(self.path / MANIFEST, {**{key: attempt[key] for key in kept}, "artefacts": artefacts})
        (self.path / ATTEMPT).unlink()
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)  # for resuming only; some GB with a large model
        locks.release(self._lock)

    def _is_artefact(self, path: Path) -> bool:
        parts = path.relative_to(self.path).parts
        return (
            parts[0] != CHECKPOINTS
            and parts not in ((MANIFEST,), (ATTEMPT,))
            and not any(part.endswith(".tmp") for part in parts)
        )

    def _require_begun(self) -> None:
        if self.run.frozen or not self.has(ATTEMPT):
            reason = "its run is frozen" if self.run.frozen else "call begin() first"
            raise RunError(f"step '{self.name}' cannot be written: {reason}")

    # its files ---------------------------------------------------------------------------------------------------

    def write_json(self, name: str, value: Any) -> None:
        self._require_begun()
        write_json_atomic(self.path / name, value)

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
        self._require_begun()
        write_csv_atomic(self.path / name, rows, columns)

    def append_log(self, row: Mapping[str, Any]) -> None:
        """One JSON object on one line of log.jsonl, on disk at once."""
        self._require_begun()
        with open(self.path / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(to_jsonable(row), allow_nan=False) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """The rows of log.jsonl; a last line cut short by a kill is left out."""
        if not self.has(LOG):
            return []
        lines = (self.path / LOG).read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]  # a whole line ends in a newline

    def trim_log(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Keep only some rows: on resuming, drop those logged after the checkpoint."""
        rows = [row for row in self.read_log() if keep(row)]
        write_text_atomic(self.path / LOG, "".join(json.dumps(row) + "\n" for row in rows))

    def metrics(self) -> dict[str, Any]:
        return read_json(self.path / METRICS)

    def provenance(self) -> dict[str, Any]:
        return read_json(self.path / PROVENANCE)


def _describe_input(item: Step | str) -> dict[str, str]:
    if isinstance(item, str):
        return {"hash": item}
    return {"run": item.run.name, "step": item.name, "hash": item.output_hash()}


def _earlier_seconds(folder: Path) -> float:
    """How long the interrupted attempt had worked, judged by its newest file."""
    attempt = read_attempt(folder)
    newest = max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())
    return attempt["earlier_seconds"] + max(0.0, newest - attempt["started"])


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
