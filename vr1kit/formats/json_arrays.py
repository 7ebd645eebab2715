"""The lists of a large JSON object, some megabytes at a time: memory does not grow with the file.

`{"info": {...}, "images": [...], "annotations": [...]}` comes as pieces `("images", [entry, ...])`, decoded by msgspec to typed
entries, fields that nobody asked for skipped. How a piece is cut: at the last "}," of the text at hand, which may lie inside an
entry or a string; but then the piece, closed by "]", is no JSON, and the cut before is tried. A piece that decodes was cut between
entries, since whether a text is balanced does not depend on what follows.

This reader knows one shape only. Whatever it cannot read is `Irregular`: broken JSON, entries of other types, NaN, a byte order
mark, a key twice. The caller then reads the file whole, with `folders.read_json`, which takes all that or says what is wrong.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

CHUNK_BYTES = 2**21  # ours: small beside the interpreter, large beside an entry
MAX_BYTES = 2**26  # of one entry, ours; longer ones are read with the whole file
CUT = re.compile(rb"\}(?=\s*,)")
TRIES = 64  # cuts tried in one text, ours; RLE crowds and attributes need two or three
TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")  # msgspec's message where a list ends before its text does
SKIP = msgspec.json.Decoder(list[msgspec.Raw])


class Irregular(ValueError):
    """Not of the shape that is read in pieces; the file as a whole may still be fine."""


def read_arrays(
    path: Path, decoders: Mapping[str, msgspec.json.Decoder], chunk_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[str, list[Any]]]:
    """(key, some entries) of each list in a JSON object, in file order; a list without entries comes once, empty.

    `decoders` has one for lists of each key that is wanted; other values are passed over. Raises Irregular and OSError.
    """
    with open(path, "rb") as file:
        text, seen = _Text(file, chunk_bytes), set()
        text.take(b"{")
        while True:
            key = text.take_value()
            if not isinstance(key, str) or key in seen:
                raise Irregular(f"the key {key!r}")
            seen.add(key)
            text.take(b":")
            if text.peek() == b"[":
                for entries in text.take_list(decoders.get(key, SKIP)):
                    if key in decoders:
                        yield key, entries
            else:
                text.take_value()
            if text.peek() != b",":
                break
            text.take(b",")
        text.take(b"}")
        if text.peek():
            raise Irregular("text after the object")


class _Text:
    """A file with a window on what comes next."""

    def __init__(self, file: BinaryIO, chunk_bytes: int):
        self._file, self._chunk, self._held, self._whole = file, chunk_bytes, b"", False

    def _fill(self, size: int) -> None:
        while len(self._held) < size and not self._whole:
            more = self._file.read(max(size - len(self._held), self._chunk))
            self._whole = not more
            self._held += more

    def peek(self) -> bytes:
        """The next byte that is not blank; nothing at the end."""
        while True:
            self._held = self._held.lstrip(b" \t\r\n")
            if self._held or self._whole:
                return self._held[:1]
            self._fill(self._chunk)

    def take(self, byte: bytes) -> None:
        if self.peek() != byte:
            raise Irregular(f"no {byte.decode()}")
        self._held = self._held[1:]

    def take_value(self) -> Any:
        """A value that is no long list."""
        self.peek()
        size = 2**12
        while True:
            self._fill(size)
            at_end = self._whole and size >= len(self._held)
            found = _read_value(self._held[:size])
            if found and (found[1] < size or at_end):  # a number that ends where the text does may have lost digits
                self._held = self._held[found[1] :]
                return found[0]
            if size > MAX_BYTES or at_end:
                raise Irregular("a value")
            size *= 2

    def take_list(self, decoder: msgspec.json.Decoder) -> Iterator[list[Any]]:
        self.take(b"[")
        if self.peek() == b"]":
            self.take(b"]")
            yield []
            return
        size, more = self._chunk, True
        while more:
            self._fill(size)
            entries, end, more = self._decode(decoder)
            if entries is None:
                if size > MAX_BYTES or (self._whole and size >= len(self._held)):
                    raise Irregular("a list without end")
                size *= 2
                continue
            if not entries:
                raise Irregular("a comma too many")
            self._held, size = self._held[end:], self._chunk
            if more:
                self.take(b",")
            yield entries
        self.take(b"]")

    def _decode(self, decoder: msgspec.json.Decoder) -> tuple[list[Any] | None, int, bool]:
        """(entries, how many bytes they are, whether more follow); no entries where the window holds no whole one."""
        held = self._held
        cuts = [match.end() for match in CUT.finditer(held, max(0, len(held) - 2**16))][-TRIES:]
        cuts = cuts or [match.end() for match in CUT.finditer(held)][-TRIES:]
        for cut in [*reversed(cuts), len(held)]:
            try:
                piece = b"".join((b"[", memoryview(held)[:cut], b"]"))
                entries = decoder.decode(piece)
                if cut == len(held):  # the window may end within a number
                    break
                return entries, cut, True
            except msgspec.ValidationError as error:
                raise Irregular(str(error)) from None
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                if match := TRAILING.search(str(error)):  # the list ends here
                    piece = piece[: int(match[1]) - 1].rstrip()  # bytes are counted from 1
                    try:
                        return decoder.decode(piece), len(piece) - 2, False
                    except msgspec.DecodeError as inner:
                        raise Irregular(str(inner)) from None
        return None, 0, True


def _read_value(text: bytes) -> tuple[Any, int] | None:
    """The value that JSON text begins with and the byte at which it ends; None where the text holds none, or not all of it."""
    try:
        decoded, _ = codecs.utf_8_decode(text)  # which leaves a character alone that is cut in two at the end
        value, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError):
        return None
    return value, len(decoded[:end].encode())
