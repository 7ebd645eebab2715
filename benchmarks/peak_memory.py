"""Run a vr1kit command and write the GPU's peak memory and the time it took: python benchmarks/peak_memory.py OUT.json WORDS..."""

import json
import sys
import time
from pathlib import Path

import torch

from vr1kit import cli


def main() -> int:
    out, words = Path(sys.argv[1]), sys.argv[2:]
    began = time.perf_counter()
    code = cli.main(words)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    seconds = round(time.perf_counter() - began, 1)
    out.write_text(json.dumps({"peak_bytes": peak, "seconds": seconds, "command": " ".join(words), "exit_code": code}) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
