"""vr1kit: a notebook-first, reproducible research kit for Vision-R1 (arXiv 2503.18013)."""

__version__ = "0.1.0"

import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm without ipywidgets: its text bar is what we want
