"""Budget: how much work a torn text is worth, so that none takes long (see `scan`). Counted in tokens, of about 1.3 us each.

The aim is 50 ms for a megabyte and a millisecond for any text; a fifth of that is left over, since machines differ.
"""

from __future__ import annotations

MOST_TOKENS = 620  # ours: some thirty torn items, more where their labels and boxes are whole

STRING = 0.3  # what a string counts for, beside the token that it is
TRY = 5  # what to try or begin a run of flat objects counts for
STRICT, DECODE, MEND = 0.006, 0.009, 0.015  # and each of its characters
SLOWLY = 0.007  # each, if Python's decoder was tried before, where msgspec's does not know a number
FOUND, ITEM = 0.005, 0.5  # each character and object of the text, to be found in a run or picked out


def most_tokens(text: str) -> float:
    """What may be spent on a text."""
    return max(MOST_TOKENS, 0.027 * len(text)) - FOUND * len(text) - ITEM * text.count("{")
