"""Checkpoints that a kill, a full disk or a bad sector cannot pass off as whole.

    runs/NAME/policies/.../checkpoints/checkpoint-50/sealed.json    written last, synced: size and hash of every other file

1. A checkpoint without a seal, or whose files differ from it, is never resumed from.
2. One is kept: the newest that is sealed. Older ones are removed only after that, so that two need room at once.
"""

import shutil
import warnings
from pathlib import Path

from vr1kit.safekeeping.files import RunError, file_hash, read_json, sync_paths, write_json_atomic

SEAL = "sealed.json"


def seal(checkpoint: Path) -> None:
    """Sync every file of a finished checkpoint, record their hashes, and remove its older siblings."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL)
    sync_paths((*files, *{path.parent for path in files}))
    hashes = {p.relative_to(checkpoint).as_posix(): {"sha256": file_hash(p), "size": p.stat().st_size} for p in files}
    write_json_atomic(checkpoint / SEAL, hashes)
    _remove_all_but(checkpoint)


def find_last(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`; what is newer, or half a checkpoint, is removed. None if there is none."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=number_of, reverse=True):
        if fault := _find_fault(checkpoint):
            if (checkpoint / SEAL).exists():  # that an unfinished one is there is no news
                warnings.warn(f"{checkpoint} is damaged ({fault}) and is not used", stacklevel=2)
            continue
        _remove_all_but(checkpoint)
        return checkpoint
    return None


def find_last_sealed(folder: Path) -> Path | None:
    """The newest finished checkpoint, by its seal alone: nothing is read, nothing removed, so that several processes may ask."""
    return max((path.parent for path in folder.glob(f"checkpoint-*/{SEAL}")), key=number_of, default=None)


def number_of(checkpoint: Path | None) -> int:
    """Steps trained: 50 of checkpoint-50; 0 where there is no checkpoint, -1 where the name has no number."""
    digits = checkpoint.name.rsplit("-", 1)[-1] if checkpoint else "0"
    return int(digits) if digits.isdecimal() else -1


def _find_fault(checkpoint: Path) -> str | None:
    try:
        hashes = read_json(checkpoint / SEAL)
        for name, item in hashes.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != item["size"] or file_hash(path) != item["sha256"]:
                return f"{name} was altered"
    except (OSError, RunError, AttributeError, TypeError, KeyError):
        return f"{SEAL} is missing or damaged"
    return None


def _remove_all_but(kept: Path) -> None:
    for other in kept.parent.glob("checkpoint-*"):
        if other != kept:
            shutil.rmtree(other)
