"""Where the project and its runs are, whichever folder one is called in."""

import os
import tomllib
from pathlib import Path

from vr1kit.safekeeping import provenance

PUBLISHED = "published"  # the run whose small files are in the repository


def project_root() -> Path:
    """The folder whose pyproject.toml names vr1kit: above the working folder, else the package's own parent.

    nbval runs a notebook in the notebook's folder, papermill in its caller's: both must find the same place.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, provenance.PACKAGE.parent):
        if _names_vr1kit(folder / "pyproject.toml"):
            return folder
    return here  # installed as a wheel and called outside any checkout: results go where the caller is


def _names_vr1kit(pyproject: Path) -> bool:
    if not pyproject.is_file():
        return False
    try:
        return tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {}).get("name") == "vr1kit"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False  # somebody else's broken file above us is no reason to stop


def runs_root() -> Path:
    """`$VR1KIT_RUNS` if set, else `runs/` in the project."""
    override = os.environ.get("VR1KIT_RUNS")
    return Path(override).expanduser().resolve() if override else project_root() / "runs"


def find_run_folder(name: str) -> Path:
    """Where a run is or will be. `published` is the project's own also where `$VR1KIT_RUNS` is elsewhere and has none: notebooks
    read small logs from it.
    """
    path, own = runs_root() / name, project_root() / "runs" / name
    return own if name == PUBLISHED and not path.exists() and own.exists() else path
