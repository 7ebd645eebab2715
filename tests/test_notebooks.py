"""The five notebooks keep the house rules; what they compute is compared by nbval (`make test`)."""

import json
from pathlib import Path

import nbformat
import pytest

from vr1kit.reproduce import NOTEBOOKS

FOLDER = Path(__file__).parents[1] / "notebooks"
BOOKS = {stem: nbformat.read(FOLDER / f"{stem}.ipynb", 4) for stem in NOTEBOOKS}


def code_cells(book):
    return [c for c in book.cells if c.cell_type == "code"]


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_cells_are_short_and_have_run_in_order(stem):
    cells = code_cells(BOOKS[stem])
    assert max(len(c.source.splitlines()) for c in cells) <= 25
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1)), "run: vr1kit refresh"


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_prose_is_at_least_as_long_as_code(stem):
    prose = sum(len(c.source) for c in BOOKS[stem].cells if c.cell_type == "markdown")
    assert prose >= sum(len(c.source) for c in code_cells(BOOKS[stem]))


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_two_parameters_with_the_quickest_defaults(stem):
    (cell,) = [c for c in code_cells(BOOKS[stem]) if "parameters" in c.metadata.get("tags", [])]
    names = {}
    exec(cell.source, names)
    assert {k: v for k, v in names.items() if k != "__builtins__"} == {"run": "published", "profile": "published"}


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_no_machine_in_the_outputs(stem):
    text = json.dumps([c.get("outputs") for c in code_cells(BOOKS[stem])])
    assert "site-packages" not in text and "/home/" not in text and "Traceback" not in text


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_no_loops_of_training_no_shell_no_plotting_code(stem):
    source = "\n".join(c.source for c in code_cells(BOOKS[stem]))
    for word in ("plt.", "matplotlib", "!pip", "%pip", "subprocess", "optimizer.step", "try:"):
        assert word not in source, word
