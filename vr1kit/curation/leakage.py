"""Leakage: pictures of an evaluation set that are in a training mix, as they are or scaled, compressed, slightly cropped.

A picture has three hashes. `exact` is SHA-256 of the file. The other two are difference hashes (N. Krawetz, "Kind of Like That", 2013):
the picture is made grey and small, and a bit says whether a pixel is brighter than its right (or lower) neighbour. 64 bits are
compared for all pairs; pairs that differ in at most COARSE_BITS are compared in 512 bits, half of them along each axis, and are matches
up to FINE_BITS. Pictures of hardly any structure, whose hashes say nothing, match exactly or not at all.

118,000 x 5,000 pictures are 590 million pairs: some seconds of XOR and population count. A match is a reason to look, not a proof: the
report has both paths and the number of bits.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vr1kit.formats.folders import MAX_BYTES
from vr1kit.formats.images import open_image
from vr1kit.records import BadRecord, DataError
from vr1kit.safekeeping.files import write_csv_atomic

COARSE_BITS = 8  # of 64; ours, see tests/test_leakage.py for what it finds
FINE_BITS = 51  # of 512, a tenth; ours
FLAT_BITS = 6  # of 64; ours: fewer bright-dark steps than this, or fewer of the other kind, say nothing
BLOCK = 2048  # training pictures compared at a time; ours: fits the cache
COLUMNS = ("train", "evaluation_set", "evaluation", "kind", "bits")


@dataclass(frozen=True)
class Hashes:
    """N pictures: names, and hashes as the module says."""

    names: tuple[str, ...]
    exact: np.ndarray  # (N, 32) uint8
    coarse: np.ndarray  # (N,) uint64
    fine: np.ndarray  # (N, 8) uint64
    skipped: Mapping[str, int]  # reason -> pictures that could not be read

    def save(self, path: str | os.PathLike) -> None:
        skipped = [f"{n} {reason}" for reason, n in self.skipped.items()]
        np.savez(
            path,
            names=np.asarray(self.names, str),
            exact=self.exact,
            coarse=self.coarse,
            fine=self.fine,
            skipped=np.asarray(skipped, str),
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> Hashes:
        """Raises DataError for a file that `save` did not write."""
        try:
            with np.load(path, allow_pickle=False) as file:
                skipped = {text.split(" ", 1)[1]: int(text.split(" ", 1)[0]) for text in file["skipped"].tolist()}
                return cls(tuple(file["names"].tolist()), file["exact"], file["coarse"], file["fine"], skipped)
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{path}: no file of hashes ({error}); hash the pictures again") from None


@dataclass(frozen=True)
class Match:
    """A training picture that is an evaluation picture, exactly or perceptually; `bits` of 512 differ."""

    train: str
    evaluation_set: str
    evaluation: str
    kind: str  # exact | perceptual
    bits: int


# --- hashing ----------------------------------------------------------------------------------------------------------------
def hash_picture(path: str | os.PathLike) -> tuple[bytes, int, np.ndarray]:
    """(exact, coarse, fine) of one picture. Raises BadRecord."""
    if Path(path).is_file() and Path(path).stat().st_size > 8 * MAX_BYTES:
        raise BadRecord("too_large", f"has more than {8 * MAX_BYTES:,} bytes; is it a picture?")
    with open_image(path):  # the header is checked before the file is read
        content = Path(path).read_bytes()
    with open_image(io.BytesIO(content)) as image:
        if image.format in ("JPEG", "MPO"):
            image.draft("L", (68, 68))  # decodes an eighth where that is enough
        grey = image.convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    large = np.asarray(grey.resize((17, 17), Image.Resampling.BOX), np.int16)
    fine = np.concatenate([(large[:16, 1:] > large[:16, :-1]).reshape(-1), (large[1:, :16] > large[:-1, :16]).reshape(-1)])
    coarse = np.packbits(small[:, 1:] > small[:, :-1])
    return hashlib.sha256(content).digest(), int(coarse.view(np.uint64)[0]), np.packbits(fine).view(np.uint64)


def hash_pictures(
    paths: Sequence[str | os.PathLike], names: Sequence[str] | None = None, on_error: str = "fail", processes: int = 1
) -> Hashes:
    """Hash pictures, under their paths or under `names`. Raises DataError for the first bad one, unless `on_error` is "skip"."""
    names = [str(path) for path in paths] if names is None else list(names)
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            results = list(pool.map(_try_hash, map(str, paths), chunksize=64))
    else:
        results = map(_try_hash, map(str, paths))
    kept, found, skipped = [], [], Counter()
    for name, path, result in zip(names, paths, results, strict=True):
        if isinstance(result[0], str):
            if on_error == "fail":
                raise BadRecord(*result).at(path, "the picture")
            skipped[result[0]] += 1
            continue
        kept.append(name)
        found.append(result)
    exact = np.frombuffer(b"".join(each[0] for each in found), np.uint8).reshape(-1, 32)
    coarse = np.asarray([each[1] for each in found], np.uint64)
    fine = np.stack([each[2] for each in found]) if found else np.zeros((0, 8), np.uint64)
    return Hashes(tuple(kept), exact, coarse, fine, dict(skipped))


def _try_hash(path: str) -> tuple:
    try:
        return hash_picture(path)
    except BadRecord as error:
        return error.reason, str(error)


# --- matching ---------------------------------------------------------------------------------------------------------------
def find_matches(
    train: Hashes, evaluations: Mapping[str, Hashes], coarse_bits: int = COARSE_BITS, fine_bits: int = FINE_BITS
) -> list[Match]:
    """All pairs of a training and an evaluation picture that match, in the order of the training pictures."""
    matches = []
    for name, evaluation in evaluations.items():
        places = {}
        for place, key in enumerate(map(bytes, evaluation.exact)):
            places.setdefault(key, []).append(place)
        exact = {(t, e) for t, key in enumerate(map(bytes, train.exact)) for e in places.get(key, ())}
        found = dict.fromkeys(exact, 0)
        for t, e in zip(*_find_close(train.coarse, evaluation.coarse, coarse_bits), strict=True):
            bits = int(np.bitwise_count(train.fine[t] ^ evaluation.fine[e]).sum())
            if bits <= fine_bits and (t, e) not in exact:
                found[int(t), int(e)] = bits
        for (t, e), bits in found.items():
            kind = "exact" if (t, e) in exact else "perceptual"
            matches.append((t, Match(train.names[t], name, evaluation.names[e], kind, bits)))
    return [match for _, match in sorted(matches, key=lambda pair: (pair[0], pair[1].evaluation_set, pair[1].evaluation))]


def _find_close(train: np.ndarray, evaluation: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of all pairs of 64-bit hashes that differ in at most `bits`; flat pictures have none."""
    ours, theirs = (np.flatnonzero(_has_structure(hashes)) for hashes in (train, evaluation))
    rows, columns = [np.zeros(0, int)], [np.zeros(0, int)]
    for start in range(0, len(ours), BLOCK):
        block = train[ours[start : start + BLOCK]]
        for first in range(0, len(theirs), BLOCK):
            other = theirs[first : first + BLOCK]
            t, e = np.nonzero(np.bitwise_count(block[:, None] ^ evaluation[other]) <= bits)
            rows.append(ours[start + t])
            columns.append(other[e])
    return np.concatenate(rows), np.concatenate(columns)


def _has_structure(coarse: np.ndarray) -> np.ndarray:
    ones = np.bitwise_count(coarse)
    return (ones >= FLAT_BITS) & (ones <= 64 - FLAT_BITS)


# --- report -----------------------------------------------------------------------------------------------------------------
def write_matches(matches: Iterable[Match], path: str | os.PathLike) -> None:
    """The report as CSV, one line a match; `read_leaked` gives the names to leave out."""
    write_csv_atomic(Path(path), [asdict(match) for match in matches], COLUMNS)


def read_leaked(path: str | os.PathLike) -> set[str]:
    """The training pictures that a report names. Raises DataError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise DataError(
                    f"{path}: not a leakage report, its columns are not {', '.join(COLUMNS)}; write it with `vr1kit leakage`"
                )
            return {row["train"] for row in reader}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give the report of `vr1kit leakage`") from None


def describe_matches(matches: Sequence[Match], train: Hashes, evaluations: Mapping[str, Hashes]) -> list[str]:
    """One line for each evaluation set: how many of its pictures are in the training mix."""
    lines = [f"{len(train.names):,} training pictures"]
    for name, evaluation in evaluations.items():
        own = [match for match in matches if match.evaluation_set == name]
        exact = {match.evaluation for match in own if match.kind == "exact"}
        close = {match.evaluation for match in own} - exact
        share = (len(exact) + len(close)) / max(len(evaluation.names), 1)
        lines.append(
            f"  {name}: {len(exact)} exact and {len(close)} perceptual matches of {len(evaluation.names):,} pictures ({share:.2%})"
        )
    return lines
