"""Where two configs, or any two pieces of plain data, differ: in words, short."""

import json
from collections.abc import Sequence
from typing import Any


def list_changes(old: Any, new: Any, name: str = "") -> list[str]:
    """["grpo.learning_rate 0.0001 -> 0.0002", …]: one entry per value that differs, by its place."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(set(old) | set(new)):
            inner = f"{name}.{key}" if name else key
            if key not in old or key not in new:
                found.append(f"{inner} {'added' if key not in old else 'dropped'}")
            else:
                found += list_changes(old[key], new[key], inner)
        return found
    return [] if old == new else [f"{name or 'it'} {json.dumps(old)} -> {json.dumps(new)}"]


def shorten(items: Sequence[str], most: int = 3) -> str:
    """The first few items on one line, long ones cut, and how many more there are."""
    shown = [item if len(item) <= 120 else item[:117] + "..." for item in items[:most]]
    return ", ".join(shown) + (f" and {len(items) - most} more" if len(items) > most else "")
