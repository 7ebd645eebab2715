"""One writer at a time: what is being made is locked, and whoever comes second is told who holds it.

The lock is the operating system's (flock). It goes with the processes that hold it, however they end, so a lock file that
is left over locks nothing: that it still names a holder only says that this holder ended before it was done. Processes
forked by the holder share its lock, so what a killed holder left running is waited for.
"""

import atexit
import fcntl
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from vr1kit.safekeeping.files import RunError
from vr1kit.safekeeping.provenance import describe_command

_held: dict[Path, tuple[int, TextIO]] = {}  # path -> (this process, its open file)


def acquire(path: Path, what: str, wait: float = 0.0) -> dict[str, Any] | None:
    """Lock `path` for this process, at most `wait` seconds from now; again is fine. Until `release`, or until it ends.

    Returns who held it last and ended before it was done, or None. RunError names who holds it now.
    """
    if path in _held and _held[path][0] == os.getpid():
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+", encoding="utf-8")
    try:
        _lock(file, what, time.monotonic() + wait)
        left = _read_holder(file)
        file.seek(0)
        file.truncate()
        json.dump({"process": os.getpid(), "host": socket.gethostname(), "command": describe_command(), "since": _now()}, file)
        file.flush()
    except BaseException:
        file.close()
        raise
    _held[path] = os.getpid(), file
    return left


def _lock(file: TextIO, what: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RunError(f"{what} is in use by {describe(_read_holder(file))}: wait for it, or use another run") from None
            time.sleep(0.1)
        except OSError as error:  # some network file systems have no locks
            warnings.warn(f"{what} cannot be locked ({error.strerror}): see that only one process uses it", stacklevel=3)
            return


def release(path: Path) -> None:
    """Unlock, and say in the file that all was done; nothing happens if this process does not hold it."""
    if path in _held and _held[path][0] == os.getpid():
        _, file = _held.pop(path)
        file.truncate(0)
        file.close()


@contextmanager
def locked(path: Path, what: str) -> Iterator[dict[str, Any] | None]:
    """Hold the lock within; gives who held it last and ended before it was done, or None."""
    left = acquire(path, what)
    try:
        yield left
    finally:
        release(path)


@atexit.register
def _close_all() -> None:
    """At the end of a process: what it did not finish stays marked with its name, for whoever comes next."""
    for process, file in _held.values():
        if process == os.getpid():
            file.close()


def describe(holder: dict[str, Any] | None) -> str:
    """'process 123 on host (vr1kit study), since 2026-11-21 10:00 UTC'"""
    if holder is None:
        return "another process"
    where = "" if holder.get("host") == socket.gethostname() else f" on {holder.get('host')}"
    return f"process {holder.get('process')}{where} ({holder.get('command')}), since {holder.get('since')}"


def _read_holder(file: TextIO) -> dict[str, Any] | None:
    file.seek(0)
    try:
        holder = json.loads(file.read(10_000))
    except ValueError:  # empty, or cut short by a kill
        return None
    return holder if isinstance(holder, dict) else None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
