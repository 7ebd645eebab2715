"""The licence of each locked package, as the installed package states it, and whether it goes with ours.

    python benchmarks/licences.py        # writes benchmarks/licences.csv; exit code 1: one does not, or says nothing

Weak copyleft that asks nothing of a program that only imports it (MPL-2.0) goes with Apache-2.0, as permissive licences do.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from vr1kit.safekeeping.files import write_csv_atomic

LOCK = Path(__file__).parents[1] / "requirements.lock.txt"
PIN = re.compile(r"([A-Za-z0-9_.-]+)==([^\s;+]+)")
GOOD = re.compile(
    r"\b(BSD|MIT|MIT-0|MIT-CMU|0BSD|Apache|ISC|PSF|Python Software Foundation|FreeBSD|Zlib|CC0|CNRI-Python|BSL-1\.0|HPND"
    r"|MPL-2\.0|MPL 2\.0|LLVM-exception)\b"
)
UNWANTED = re.compile(r"\b(AGPL|GPL|LGPL|SSPL|Proprietary|Commons Clause|NonCommercial)", re.IGNORECASE)


def licence_of(package: str) -> str:
    """As its metadata has it: the expression, else the classifiers, else the first line of the text. Raises PackageNotFoundError."""
    about = metadata.metadata(package)
    classifiers = [line.split(" :: ")[-1] for line in about.get_all("Classifier") or [] if line.startswith("License")]
    return about.get("License-Expression") or " | ".join(classifiers) or (about.get("License") or "").split("\n")[0]


def is_compatible(licence: str) -> bool:
    return bool(GOOD.search(licence)) and not UNWANTED.search(licence)


def list_licences(lock: Path = LOCK) -> list[dict[str, object]]:
    """package, version, licence, compatible of each locked package that is installed; others are of another platform."""
    rows = []
    for package, version in PIN.findall(lock.read_text()):
        try:
            licence = licence_of(package)
        except metadata.PackageNotFoundError:
            continue
        rows.append({"package": package, "version": version, "licence": licence, "compatible": is_compatible(licence)})
    return rows


def main() -> int:
    rows = list_licences()
    write_csv_atomic(Path(__file__).with_suffix(".csv"), rows)
    bad = [row for row in rows if not row["compatible"]]
    for row in bad:
        print(f"{row['package']}: {row['licence'] or 'no licence said'}")
    print(
        f"{len(rows)} of {len(PIN.findall(LOCK.read_text()))} locked packages are installed; {len(bad)} do not go with Apache-2.0"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
