"""Budget: how much work a torn text is worth, so that none takes long (see `scan`). Counted in tokens, of about 1.3 us each.

The aim is 50 ms for a megabyte and a millisecond for any text; a fifth of that is left over, since machines differ.
"""

from __future__ import annotations

MOST_TOKENS = 600  # ours: some thirty torn items, more where their labels and boxes are whole

# What reading a run of flat objects counts for: to try or begin it, for each object, and for each character.
TRY, ITEM = 5, 0.4
STRICT, DECODE, MEND = 0.006, 0.009, 0.015


def most_tokens(length: int) -> float:
    """What may be spent on a text of that many characters."""
    return max(MOST_TOKENS, 0.03 * length) - 0.007 * length  # that much goes to finding runs, or to picking whole items
