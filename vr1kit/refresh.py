"""Execute the committed notebooks in place, as nbval will compare them: outputs and counts, no timings, no progress bars."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from vr1kit.reproduce import NOTEBOOKS, ThisInterpreter
from vr1kit.runs import project_root

IGNORED = "nbval-ignore-output"


def refresh_notebooks(stems: tuple[str, ...] = NOTEBOOKS) -> list[Path]:
    """Run each with its committed parameters and write it back; a notebook that fails is left as it was.

    Messages on stderr are kept out of cells whose output nbval ignores; anywhere else they raise RuntimeError, since a reader
    would see them and nbval would compare them.
    """
    written = []
    for stem in stems:
        path = project_root() / "notebooks" / f"{stem}.ipynb"
        notebook = nbformat.read(path, 4)
        client = NotebookClient(
            notebook, km=ThisInterpreter(), timeout=900, record_timing=False, resources={"metadata": {"path": str(path.parent)}}
        )
        client.execute()
        for index, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
            loud = [o for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
            if loud and IGNORED not in cell.metadata.get("tags", []):
                raise RuntimeError(f"{stem}, code cell {index + 1} writes to stderr: {loud[0].text[:200]!r}")
            cell.outputs = [o for o in cell.outputs if o not in loud]
            cell.metadata.pop("execution", None)
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, path)
        written.append(path)
    return written
