"""Tokens and text: which characters of an answer each token writes. Credit and confidence both need it. Numpy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def token_spans(ids: Sequence[Any], decode: Callable[[list[Any]], str]) -> tuple[str, np.ndarray]:
    """The text of an answer, and which of its characters each token writes: (T, 2), end exclusive.

    ids: numbers, or the bytes that a server names; `decode` writes them as text, special tokens left out; a token that writes nothing has an empty span. Where a character
    is written by several tokens (byte-level tokenizers), each of them has it in its span.
    """
    ids = list(ids)
    text, pieces = decode(ids), [decode([i]) for i in ids]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=int)
    if "".join(pieces) != text:  # a token is part of a character, or decoding looks at neighbours
        ends = np.array([_common_prefix(decode(ids[: k + 1]), text) for k in range(len(ids))], int)
        ends = np.maximum.accumulate(ends)
    starts = np.concatenate([[0], ends[:-1]]).astype(int)
    partial = (starts == ends) & np.array([piece != "" for piece in pieces], bool) & (ends < len(text))
    return text, np.stack([starts, ends + partial], axis=1) if len(ids) else np.zeros((0, 2), int)


def _common_prefix(one: str, other: str) -> int:
    for k, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return k
    return min(len(one), len(other))
