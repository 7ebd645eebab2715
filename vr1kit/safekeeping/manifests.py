"""The records in a step's folder: their names, what a whole one holds, and the hashes that are taken of them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vr1kit import __version__
from vr1kit.safekeeping.files import RunError, digest, read_json

MANIFEST, ATTEMPT, PROVENANCE, METRICS, LOG, DIFF = (
    "manifest.json", "attempt.json", "provenance.json", "metrics.json", "log.jsonl", "changes.diff",
)  # fmt: skip
CHECKPOINTS, TENSORBOARD, WANDB = "checkpoints", "tensorboard", "wandb"
NOT_RESULTS = (PROVENANCE, LOG, DIFF)  # they differ between two runs with the same results
KEEP = (".json", ".jsonl", ".csv", ".npz", ".md", ".diff")  # of a published run
LEAVE = (CHECKPOINTS, "model", "model-beginner", "dataset", "images", "logs", "notebooks")
LEAVE_FILES = ("predictions.jsonl", "annotations.json", "attempt.json", "questions.json")

FORMAT = 1  # of manifests; raised when a version can no longer read what another wrote. Where none is written it is 1
REQUEST = {"step": str, "fingerprint": str, "config": object, "inputs": dict, "code_of": list | None, "code": dict}


class OtherVersion(RunError):
    """A record that another version of the kit wrote, in a way that this one does not read."""


def find_steps(run: Path) -> list[str]:
    """The names of the steps begun in a run's folder, sorted; another process may be at work on some of them."""
    names = []
    for folder, below, files in os.walk(run):  # passes over what another process removes meanwhile
        if MANIFEST in files or ATTEMPT in files:
            names.append(Path(folder).relative_to(run).as_posix())
            below.clear()  # no step lies inside another
    return sorted(names)


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a step's folder, with all that a manifest has. Raises RunError."""
    manifest = _read(folder / MANIFEST, {**REQUEST, "artefacts": dict})
    if not all(isinstance(item, dict) and {"sha256", "size"} <= set(item) for item in manifest["artefacts"].values()):
        raise RunError(f"{folder / MANIFEST} has artefacts without a hash; delete it to have the step made again")
    return manifest


def read_attempt(folder: Path) -> dict[str, Any]:
    """attempt.json of a step that was begun and not finished. Raises RunError."""
    kinds = {"started": float | int, "earlier_seconds": float | int, "git_commit": object, "git_dirty": object}
    return _read(folder / ATTEMPT, {**REQUEST, **kinds})


def _read(path: Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    record = read_json(path)
    if isinstance(record, dict) and (found := record.get("format", 1)) != FORMAT:
        by = f"{record.get('vr1kit', 'unknown')}, format {found}; this is {__version__}, format {FORMAT}"
        raise OtherVersion(f"{path} was written by another version of vr1kit ({by}): use that version, or another run name")
    if not isinstance(record, dict) or not all(key in record and isinstance(record[key], kind) for key, kind in kinds.items()):
        raise RunError(f"{path} is not what vr1kit wrote there; delete it to have the step made again")
    inputs = record["inputs"].values()
    if not all(isinstance(item, dict) and "hash" in item and _are_texts(item.values()) for item in inputs):
        raise RunError(f"{path} has inputs without a hash; delete it to have the step made again")
    if not _are_texts([*record["code"].values(), *(record["code_of"] or ())]):
        raise RunError(f"{path} has code without a hash; delete it to have the step made again")
    return record


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def is_result(name: str) -> bool:
    """Whether an artefact of a step should be the same in a run that repeats it; events of a tracker carry the time."""
    return name not in NOT_RESULTS and not name.startswith((f"{TENSORBOARD}/", f"{WANDB}/"))


def results_hash(manifest: Mapping[str, Any]) -> str:
    """Of what a step made: its files but for provenance, log and diff, and a tracker's."""
    return digest({name: item["sha256"] for name, item in manifest["artefacts"].items() if is_result(name)})


def fingerprint(request: Mapping[str, Any]) -> str:
    """Of the config, the inputs' hashes and the code's; names of runs and steps do not matter."""
    inputs = {key: item["hash"] for key, item in request["inputs"].items()}
    return digest({"config": request["config"], "inputs": inputs, "code": request["code"]})


def is_published(path: Path) -> bool:
    """Does `vr1kit publish` copy this file of a step? Weights, pictures, datasets and full predictions stay behind."""
    return path.suffix in KEEP and path.name not in LEAVE_FILES and not set(path.parts[:-1]) & set(LEAVE)
