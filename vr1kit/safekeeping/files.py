"""Small files, written whole or not at all: JSON, CSV, hashes.

Every write goes to a temporary name beside the target, is synced, and is renamed over it: a reader, or a process
that was killed half-way, sees the old file or the new one, never a part. NaN and infinities, which JSON does not
have, become null.
"""

import csv
import dataclasses
import functools
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

NUMBER = re.compile(r"[+-]?(\d+(?P<fraction>\.\d*)?|(?P<point>\.\d+))(?P<exponent>[eE][+-]?\d+)?")

SYNC_ALL_ABOVE = 200  # files; ours


class RunError(ValueError):
    """A run, step or file that cannot be used as asked; the message is one line and says what to do."""


def to_jsonable(value: Any) -> Any:
    """Plain JSON types only; NaN and infinities become null, since JSON has none."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_jsonable({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, np.generic):
        return to_jsonable(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"cannot store a {type(value).__name__} as JSON: {value!r}")


def digest(value: Any) -> str:
    """sha256 of the value's canonical JSON."""
    text = json.dumps(to_jsonable(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def open_atomic(path: Path, mode: str = "w") -> Iterator[IO]:
    """A file to write; within, it has a temporary name beside the target. Synced and renamed at the end, gone after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode) if "b" in mode else open(temporary, mode, encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_path(path.parent)
    except BaseException:  # a full disk, Ctrl-C: leave nothing behind
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def open_folder_atomic(folder: Path) -> Iterator[Path]:
    """An empty folder to fill; within, it has a temporary name beside the target, which it replaces at the end."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        sync_paths((*temporary.rglob("*"), temporary))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
        sync_path(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sync_path(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk before this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_paths(paths: Iterable[Path]) -> None:
    """`sync_path` for several; many at once, since one by one a thousand small files take seconds."""
    paths = list(paths)
    if len(paths) > SYNC_ALL_ABOVE:
        os.sync()
    else:
        for path in paths:
            sync_path(path)


def write_text_atomic(path: Path, text: str) -> None:
    """Write beside the target, sync, then rename: readers see the old file or the new one, never a part."""
    with open_atomic(path) as file:
        file.write(text)


def write_json_atomic(path: Path | str, value: Any) -> None:
    write_text_atomic(Path(path), json.dumps(to_jsonable(value), indent=1, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8, of numbers with thousands of digits
        raise RunError(f"{path} is not valid JSON ({error}); delete it to have it made again") from error


def read_csv(path: Path | str) -> list[dict[str, Any]]:
    """Rows as dicts; cells that look like numbers become int or float, empty ones None."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{key: _parse_cell(cell) for key, cell in row.items()} for row in csv.DictReader(file)]


def _parse_cell(cell: str | None) -> Any:
    match = NUMBER.fullmatch(cell or "")
    if not match:
        return cell or None
    is_float = match["fraction"] is not None or match["point"] or match["exponent"]
    return float(cell) if is_float else int(cell)


def write_csv_atomic(path: Path | str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Columns default to the first row's; every row must have exactly these."""
    if columns is None and not rows:
        raise ValueError(f"cannot write {Path(path).name}: no rows, and no columns named")
    columns = list(columns or rows[0])
    lines = _CsvLines()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    for index, row in enumerate(rows):
        if set(row) != set(columns):
            wrong = ", ".join(sorted(set(row) ^ set(columns)))
            raise ValueError(f"cannot write {Path(path).name}: row {index} differs in its columns: {wrong}")
        cells = [to_jsonable(row[column]) for column in columns]
        writer.writerow([repr(cell) if isinstance(cell, float) else cell for cell in cells])
    write_text_atomic(Path(path), "".join(lines))


class _CsvLines(list):
    write = list.append


@functools.cache
def _file_hash(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hash(path: Path) -> str:
    stat = path.stat()
    return _file_hash(str(path), stat.st_size, stat.st_mtime_ns)
