"""What most likely went wrong, from what was said last: one sentence with what to do about it."""

import re
from pathlib import Path

from vr1kit.safekeeping.disks import describe_disk, is_full_disk

LINES = 6  # of a log that are shown

# What is looked for in the last words, and what it most often means. The first that fits counts.
CAUSES = (
    (r"OutOfMemoryError|CUDA out of memory", "the GPU's memory is full: take fewer prompts or generations a step, or LoRA"),
    (r"MemoryError|Cannot allocate memory|DefaultCPUAllocator", "memory is full: close other programs, or run fewer workers"),
    (r"BrokenProcessPool|terminated abruptly|kernel died|DeadKernel",
     "a process was killed; most often the machine ran out of memory: close other programs, or run fewer workers"),
    (r"is in use by process", "another process works on this run: wait for it, or stop it"),
    (r"ModuleNotFoundError|ImportError", "the environment is not the pinned one: `make setup`"),
    (r"Permission denied|Read-only file system", "the folder may not be written to: check its rights"),
    (r"SafetensorError|not valid JSON|is damaged|was altered|no manifest",
     "a file of the run is damaged: `vr1kit verify` says which; delete its step's folder to have it made again"),
    (r"ConnectionError|ConnectTimeout|Temporary failure in name|LocalEntryNotFound|offline",
     "something is to be downloaded and the network does not answer"),
)  # fmt: skip


def find_cause(said: BaseException | str, folder: Path) -> str | None:
    """The likely cause of a failure while working in `folder`, or None if nothing known fits."""
    if is_full_disk(said):
        return f"{describe_disk(folder)} is full, or a quota is: make room; what was finished is intact"
    text = said if isinstance(said, str) else f"{type(said).__name__}: {said}"
    return next((cause for pattern, cause in CAUSES if re.search(pattern, text)), None)


def explain(error: Exception, folder: Path) -> str:
    """For a terminal: what failed, and its likely cause if one is known."""
    said = str(error).strip() if isinstance(error, RuntimeError) else " ".join(str(error).split())  # a job's ends with its log
    cause = find_cause(error, folder)
    return f"{type(error).__name__}: {said} (--debug shows the traceback)" + (f"\nmost likely: {cause}" if cause else "")


def last_log_lines(run_path: Path, since: float, count: int = LINES) -> tuple[Path, list[str]] | None:
    """(file, its last lines) of the log of this run's jobs that was written last, if any was after `since` (seconds since 1970)."""
    logs = [path for path in (run_path / "logs").glob("**/*.log") if path.stat().st_mtime >= since]
    if not logs:
        return None
    newest = max(logs, key=lambda path: path.stat().st_mtime)
    with open(newest, "rb") as file:
        file.seek(max(0, newest.stat().st_size - 20_000))
        text = file.read().decode("utf-8", "replace")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    return newest, [line for line in lines if line][-count:]
