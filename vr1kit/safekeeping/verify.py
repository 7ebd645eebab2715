"""Is a run still what its manifests say? Every file is read and hashed again; nothing is taken from a cache.

Found are: files missing, altered, or in no manifest; manifests damaged, altered or moved; results made from an input that
has been made anew since. A published run left its large files behind on purpose: these are counted, not held against it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vr1kit.runs import Run
from vr1kit.safekeeping.files import RunError
from vr1kit.safekeeping.manifests import CHECKPOINTS, MANIFEST, fingerprint, is_published, read_manifest, results_hash


@dataclass
class Verdict:
    """What was checked, and what is wrong: one line per fault."""

    steps: int = 0
    files: int = 0
    left_behind: int = 0
    unfinished: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def verify_run(run: Run) -> Verdict:
    """Check every step of a run. Raises RunError if there is no such run."""
    if not run.path.is_dir():
        raise RunError(f"there is no run '{run.name}': `vr1kit verify` wants a folder under runs/")
    verdict = Verdict()
    for name in run.step_names():
        if not (run.path / name / MANIFEST).is_file():
            verdict.unfinished.append(name)
            continue
        verdict.steps += 1
        verdict.faults += [f"{name}: {fault}" for fault in _find_faults(run, name, verdict)]
    verdict.faults += _find_strays(run, verdict)
    return verdict


def _find_faults(run: Run, name: str, verdict: Verdict) -> Iterator[str]:
    folder = run.path / name
    try:
        manifest = read_manifest(folder)
    except RunError as error:
        yield str(error)
        return
    if manifest["step"] != name:
        yield f"its manifest is that of step '{manifest['step']}'"
    for key, made in manifest["inputs"].items():
        if made.get("run") == run.name and (run.path / str(made.get("step")) / MANIFEST).is_file():
            try:
                now = results_hash(read_manifest(run.path / made["step"]))
            except RunError:
                continue  # is a fault of its own
            if made["hash"] != now:
                yield f"was made from another {key} than {made['step']} holds now"
    for file_name, item in manifest["artefacts"].items():
        if PurePosixPath(file_name).is_absolute() or ".." in PurePosixPath(file_name).parts:
            yield f"its manifest names {file_name}, outside of its folder"
            continue
        path = folder / file_name
        if not path.is_file():
            if run.frozen and not is_published(Path(file_name)):
                verdict.left_behind += 1
            else:
                yield f"{file_name} is missing"
            continue
        verdict.files += 1
        if path.stat().st_size != item["size"] or _hash(path) != item["sha256"]:
            yield f"{file_name} was altered"
    if manifest["fingerprint"] != fingerprint(manifest):
        yield "its manifest was altered: config, inputs and code do not add up to its fingerprint"


def _find_strays(run: Run, verdict: Verdict) -> Iterator[str]:
    """Files in a finished step's folder that its manifest does not name."""
    finished = [name for name in run.step_names() if name not in verdict.unfinished]
    for name in finished:
        try:
            known = set(read_manifest(run.path / name)["artefacts"]) | {MANIFEST}
        except RunError:
            continue
        for path in sorted((run.path / name).rglob("*")):
            place = path.relative_to(run.path / name)
            if path.is_file() and place.parts[0] != CHECKPOINTS and place.as_posix() not in known:
                yield f"{name}: {place.as_posix()} is in no manifest"


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
