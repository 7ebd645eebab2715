"""Files of a set: small ones read whole, pictures found by name, and nothing outside of the set's folder ever opened.

A file is opened only if its real path, links followed, lies in the folder that the user named. Names with `..`, absolute
names and links that lead out are faults; so sets whose pictures lie elsewhere need that folder named, too
(`images=FOLDER`).
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from vr1kit.records import BadRecord, DataError, shorten

PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # a name without folders, on any system
MAX_BYTES = 16 * 2**20  # of the file of one picture; ours: a thousand times what is usual


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file. DataError in one line, with the byte where it breaks; `what` says what the file should be."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of {what}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the path of {what}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not JSON, no UTF-8 at byte {error.start}; give the path of {what}") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        byte = len(text[: error.pos].encode())
        raise DataError(
            f"{path}: not JSON, {error.msg} at byte {byte}; fetch the file again, or give the path of {what}"
        ) from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists without end
        raise DataError(f"{path}: not JSON that can be read ({error}); give the path of {what}") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a small text file. Raises BadRecord."""
    try:
        return read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadRecord("malformed", f"is not UTF-8 at byte {error.start}; save it as plain text") from None


def read_bytes(path: Path) -> bytes:
    """A file of at most MAX_BYTES. Raises BadRecord."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadRecord("malformed", f"has more than {MAX_BYTES:,} bytes; is it an annotation?")
        return path.read_bytes()
    except OSError as error:
        raise BadRecord("malformed", f"cannot be read ({error.strerror}); check it") from None


def check_inside(path: Path, folder: Path) -> Path:
    """`path`, if it lies in `folder` when links are followed; DataError otherwise."""
    if not is_inside(path, folder):
        what = f"{path}: is a link that leads out of {folder}, and nothing outside of it is opened"
        raise DataError(f"{what}; copy what it leads to, or name the pictures' folder with images=FOLDER")
    return path


def is_inside(path: Path, folder: Path) -> bool:
    return _real(path).is_relative_to(_real(folder))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


class PictureFolder:
    """The folder that a set's pictures (or other files) are opened from, and nothing outside of it. Lists every folder once."""

    def __init__(self, root: Path, within: Path | None = None, what: str = "picture"):
        """`within`: the set's folder, where `root` was not named by the user but follows from the format."""
        self.root, self.what = check_inside(root, within) if within else root, what
        self._real = _real(root)
        self._prefix, self._empty = str(root / "_")[:-1], False
        self._files: set[str] | None = None  # in the folder itself
        self._listings: dict[Path, dict[str, str] | None] = {}

    def find(self, name: Any, required: bool = True) -> Path:
        """The path of a picture by its name, relative to the folder. Raises BadRecord: leaves_folder, absent, malformed."""
        path = self.root.joinpath(*self._split(name))
        listing = self._list(path.parent)
        if listing is None:
            raise self._leaves(name, "lies in a folder that is a link and")
        kind = listing.get(path.name)
        if kind == "link":
            if not _real(path).is_relative_to(self._real):
                raise self._leaves(name, "is a link that")
            kind = "file" if path.is_file() else None
        if required and kind != "file":
            what = f"names the {self.what} {shorten(name)}, which is not in {self.root}"
            raise BadRecord("absent", f"{what}; add it, or name its folder with images=FOLDER")
        return path

    def find_text(self, name: Any, required: bool = True) -> str:
        """`find` as text, many times faster for plain names."""
        if isinstance(name, str) and PLAIN.fullmatch(name):
            if self._files is None:
                self._files = {name for name, kind in (self._list(self.root) or {}).items() if kind == "file"}
                self._empty = self._list(self.root) == {}
            if name in self._files or (self._empty and not required):
                return self._prefix + name
        return str(self.find(name, required))

    def _split(self, name: Any) -> tuple[str, ...]:
        text = isinstance(name, str) and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in name)
        if not text or not PurePosixPath(name).parts:
            raise BadRecord("malformed", f"has {shorten(name)} as the name of its {self.what}; give a file's name")
        posix, windows = PurePosixPath(name), PureWindowsPath(name)  # sets are made on both
        if posix.is_absolute() or windows.drive or windows.root or ".." in posix.parts or ".." in windows.parts:
            raise self._leaves(name)
        return posix.parts

    def _leaves(self, name: str, how: str = "") -> BadRecord:
        what = f"names the {self.what} {shorten(name)}, which {how + ' ' if how else ''}leaves the folder {self.root}"
        return BadRecord("leaves_folder", f"{what}; name it relative to that folder, and copy it there or give its folder")

    def _list(self, folder: Path) -> dict[str, str] | None:
        """Name -> file, link or other, of one folder; None if it leads out of the root."""
        if folder not in self._listings:
            listing: dict[str, str] | None = {}
            if not _real(folder).is_relative_to(self._real):
                listing = None
            else:
                try:
                    with os.scandir(folder) as entries:
                        listing = {entry.name: _kind(entry) for entry in entries}
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its rights") from None
            self._listings[folder] = listing
        return self._listings[folder]


def _kind(entry: os.DirEntry) -> str:
    return "link" if entry.is_symlink() else "file" if entry.is_file(follow_symlinks=False) else "other"


def choose_folder(folders: Sequence[PictureFolder], names: Iterable[Any]) -> PictureFolder:
    """The first of the folders that has any of some names; the first of all if none has."""
    names = list(names)
    for folder in folders:
        for name in names:
            try:
                folder.find(name)
                return folder
            except BadRecord:
                continue
    return folders[0]


def find_any(folders: Sequence[PictureFolder], names: Sequence[Any]) -> Path:
    """The first of some names that is in the first of some folders that has one. Raises the first BadRecord if none is."""
    first = None
    for folder in folders:
        for name in names:
            try:
                return folder.find(name)
            except BadRecord as error:
                if error.reason == "leaves_folder":
                    raise
                first = first or error
    raise first


# One and the same, by whoever wrote the set.
SPLIT_NAMES = (("val", "valid", "validation"), ("mini_val", "minival"), ("train", "training"))


def choose_split(folder: Path, splits: Iterable[str], asked: str | None) -> str:
    """The split that is asked for: by its name, another spelling of it, or its beginning where only one begins so.

    Nothing asked for: the only one. Raises DataError that lists them.
    """
    splits = sorted(splits)
    if asked is None:
        if len(splits) == 1:
            return splits[0]
        raise DataError(f"{folder}: has the splits {', '.join(splits)}; name one with split=NAME")
    same = next((group for group in SPLIT_NAMES if asked in group), (asked,))
    for found in (
        [s for s in splits if s == asked],
        [s for s in splits if s in same],
        [s for s in splits if s.startswith(asked)],
    ):
        if len(found) == 1:
            return found[0]
    raise DataError(f"{folder}: has no split {shorten(asked)}; it has {', '.join(splits)}")
