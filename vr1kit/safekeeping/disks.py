"""Room on the disk: estimated before something is written, looked at while it is, and named when it is gone."""

import errno
import os
import shutil
from pathlib import Path

from vr1kit.safekeeping.files import RunError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, quota used up, file larger than it may get
# What libraries that are no Python say of it: safetensors (Rust) as an error of its own, torch's zip writer only by this name.
SIGNS = ("No space left on device", "Disk quota exceeded", "File too large", "os error 28", "os error 122", "os error 27",
         "PytorchStreamWriter failed", "unexpected pos")  # fmt: skip


class DiskFull(RunError):
    """There is no room for what is to be written; the message names the disk."""


def find_mount(path: Path) -> Path:
    """Where the disk that holds `path` (or will) is mounted."""
    path = _existing(path).resolve()
    while not os.path.ismount(path):
        path = path.parent
    return path


def describe_disk(path: Path) -> str:
    """'the disk at /data (3 of 250 GB free)'"""
    usage = shutil.disk_usage(_existing(path))
    return f"the disk at {find_mount(path)} ({_size(usage.free)} of {_size(usage.total)} free)"


def require_space(path: Path, needed: int, what: str) -> None:
    """DiskFull if `needed` bytes are more than is free where `path` is."""
    if shutil.disk_usage(_existing(path)).free < needed:
        raise DiskFull(f"{what} needs about {_size(needed)}, more than {describe_disk(path)} has: make room, then go on")


def is_full_disk(error: BaseException | str) -> bool:
    """Does this error, or what was said of it, come from a full disk, a quota or a limit on the size of files?"""
    if isinstance(error, DiskFull) or getattr(error, "errno", None) in FULL:
        return True
    return any(sign in str(error) for sign in (*SIGNS, "make room, then go on"))


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
