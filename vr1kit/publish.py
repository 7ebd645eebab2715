"""Make a finished run part of the repository: its small files, copied to runs/published and frozen.

Weights, pictures, datasets and full predictions stay behind; logs, tables, matches (for intervals), manifests and provenance go
along, so that notebooks and figures show real results without training anything.
"""

from __future__ import annotations

import shutil

from vr1kit.runs import Run, RunError, check_name, open_run, runs_root
from vr1kit.safekeeping.manifests import is_published
from vr1kit.safekeeping.places import PUBLISHED


def publish(source: str, target: str = PUBLISHED) -> Run:
    """Copy the small files of all finished steps of run `source` to run `target` and freeze it. Replaces what was there."""
    run, out = open_run(source), Run(check_name(target), runs_root() / target)
    steps = [name for name in run.step_names() if not name.startswith("notebooks/")]
    unfinished = [name for name in steps if not (run.path / name / "manifest.json").exists()]
    if not steps or unfinished:
        raise RunError(
            f"run '{source}' cannot be published: {'unfinished: ' + ', '.join(unfinished) if unfinished else 'it has no steps'}"
        )
    if run.frozen:
        raise RunError(f"run '{source}' is itself published; publish the run that made it")
    shutil.rmtree(out.path, ignore_errors=True)
    for name in steps:
        for path in sorted((run.path / name).rglob("*")):
            if path.is_file() and is_published(path.relative_to(run.path / name)):
                place = out.path / name / path.relative_to(run.path / name)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
    out.freeze(
        f"Small files of run '{source}', made by: vr1kit study --run {source} --profile published; vr1kit publish {source}"
    )
    return out
