"""vr1kit: a notebook-first, reproducible research kit for Vision-R1 (arXiv 2503.18013)."""

__version__ = "0.1.0"

import os
import warnings

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # or trl reports every training; nothing here sends anything unasked

warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm without ipywidgets: its text bar is what we want
