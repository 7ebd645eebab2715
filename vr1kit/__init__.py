"""vr1kit: a notebook-first, reproducible research kit for Vision-R1 (arXiv 2503.18013)."""

__version__ = "0.1.0"
