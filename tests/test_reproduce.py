"""The pipeline over toy notebooks: order, skipping, reasons, failures, parameters, interruption."""

import io
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import nbformat
import pytest

import vr1kit.reporting
from vr1kit import reproduce as pipeline
from vr1kit.runs import RunError, open_run, project_root, read_json
from vr1kit.terminal import NotebookOutput, Screen, format_seconds

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
HEADER = "run: str = 'tiny'\nprofile: str = 'tiny'"
MAKE = (
    "from vr1kit.runs import open_run\nstep = open_run(run).step('numbers', {'n': 1}, code=[])\n"
    "if step.state() != 'done':\n    step.begin()\n    step.finish({'n': 1})\n    print('made the numbers')"
)


def write_notebook(folder: Path, stem: str, *cells: str, header: str | None = HEADER) -> Path:
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    if header is not None:
        notebook.cells.append(nbformat.v4.new_code_cell(header, metadata={"tags": ["parameters"]}))
    for source in cells:
        new = nbformat.v4.new_markdown_cell if source.startswith("#") else nbformat.v4.new_code_cell
        notebook.cells.append(new(source))
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / f"{stem}.ipynb")
    return folder / f"{stem}.ipynb"


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    for name in ("VR1KIT_TRACE", "VR1KIT_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "runs"


def run_all(paths, only=None, force=False, parameters=None):
    """(exit code, what was printed)"""
    out = io.StringIO()
    run = open_run("toy")
    tasks = pipeline.plan(run, paths, "tiny", parameters or {}, {})
    code = pipeline.run_tasks(run, tasks, Screen(out), "vr1kit reproduce --run toy", only, force)
    return code, out.getvalue()


def test_notebooks_run_in_order_then_are_skipped_and_rerun_with_the_reason(tmp_path, runs_folder):
    first = write_notebook(tmp_path / "nb", "01_first", "## Numbers", MAKE)
    second = write_notebook(tmp_path / "nb", "02_second", "import sys, os\nprint(sys.executable)\nassert run == 'toy'")

    code, text = run_all([first, second])
    assert code == 0
    assert text.index("[1/2] 01_first: runs, because: has not run yet") < text.index("[2/2] 02_second: runs")
    assert "    Numbers\n" in text and "      made the numbers\n" in text, "sections and prints are passed on"
    assert f"      {sys.executable}\n" in text, "the kernel is this interpreter"
    folder = runs_folder / "toy" / "notebooks" / "01_first"
    assert {"executed.ipynb", "params.json", "metrics.json", "provenance.json", "manifest.json"} <= set(os.listdir(folder))
    assert "partial.ipynb" not in os.listdir(folder)
    assert read_json(folder / "params.json") == {"run": "toy", "profile": "tiny"}
    assert list(read_json(folder / "metrics.json")["steps"]) == ["numbers"]
    assert str(tmp_path) not in (folder / "executed.ipynb").read_text(), "no folder of this machine is recorded"

    code, text = run_all([first, second])
    assert code == 0 and text.count("skipped, done and unchanged") == 2

    (runs_folder / "toy" / "numbers" / "manifest.json").unlink()
    tasks = pipeline.plan(open_run("toy"), [first, second], "tiny", {}, {})
    assert [pipeline.why_run(task) for task in tasks] == ["step numbers that it made or used is gone", None]
    assert pipeline.why_run(tasks[1], force=True) == "asked for by --force"

    write_notebook(tmp_path / "nb", "01_first", "## Other words", MAKE)  # prose does not count
    write_notebook(tmp_path / "nb", "02_second", "print('changed')")
    code, text = run_all([first, second])
    assert "01_first: runs, because: step numbers" in text and "02_second: runs, because: input code cells changed" in text

    write_notebook(tmp_path / "nb", "01_first", "1 + 1", MAKE)  # the one after depends on it
    tasks = pipeline.plan(open_run("toy"), [first, second], "tiny", {}, {})
    assert [pipeline.why_run(task) for task in tasks] == ["input code cells changed", "input 01_first changed"]
    tasks = pipeline.plan(open_run("toy"), [first, second], "paper", {}, {})
    assert 'parameters.profile "tiny" -> "paper"' in pipeline.why_run(tasks[0])


def test_the_report_ends_the_pipeline_once_all_notebooks_are_done(tmp_path, monkeypatch, capsys):
    write_notebook(tmp_path / "notebooks", "01_first", "1")
    write_notebook(tmp_path / "notebooks", "02_second", "1")
    report = types.ModuleType("vr1kit.reporting.report")
    report.build_report = lambda run_path: run_path / "report.html"
    report.verdict_lines = lambda run_path: ["mixed  17.7 -> 26.6"]
    monkeypatch.setitem(sys.modules, "vr1kit.reporting.report", report)
    monkeypatch.setattr(vr1kit.reporting, "report", report, raising=False)
    monkeypatch.setattr(pipeline, "NOTEBOOKS", ("01_first", "02_second"))
    monkeypatch.setattr(pipeline, "project_root", lambda: tmp_path)
    assert pipeline.reproduce("toy", "tiny", only="01") == 0
    assert "report:" not in capsys.readouterr().out
    assert pipeline.reproduce("toy", "tiny") == 0
    text = capsys.readouterr().out
    assert "[1/2] 01_first: skipped" in text and "[2/2] 02_second: done" in text
    assert "mixed  17.7 -> 26.6" in text and "report: " in text and text.rstrip().endswith("report.html")
    assert "VR1KIT_COMMAND" not in os.environ
    provenance = read_json(tmp_path / "runs" / "toy" / "notebooks" / "02_second" / "provenance.json")
    assert provenance["command"] == "vr1kit reproduce --run toy --profile tiny"


def test_a_failing_cell_is_explained_in_one_block_and_leaves_nothing_that_looks_done(tmp_path, runs_folder):
    good = write_notebook(tmp_path / "nb", "01_good", "1")
    bad = write_notebook(tmp_path / "nb", "02_bad", "print('before')", "raise ValueError('first line\\nno checkpoint')")
    never = write_notebook(tmp_path / "nb", "03_never", "1")
    code, text = run_all([good, bad, never])
    assert code == 1
    assert "FAILED   02_bad, cell In [4] (raise ValueError(" in text  # parameters, injected parameters, print, raise
    assert "error    ValueError: first line\n         no checkpoint\n" in text
    assert "continue vr1kit reproduce --run toy" in text
    assert "Traceback" not in text and "03_never" not in text
    folder = runs_folder / "toy" / "notebooks" / "02_bad"
    assert (folder / "failed.ipynb").is_file() and f"notebook {folder / 'failed.ipynb'}" in text
    assert not (folder / "executed.ipynb").exists() and not (folder / "manifest.json").exists()
    assert open_run("toy").find("notebooks/02_bad").state() == "missing"

    write_notebook(tmp_path / "nb", "02_bad", "print('mended')")
    code, text = run_all([good, bad, never], only="02")
    assert code == 0 and "03_never" not in text and not (folder / "failed.ipynb").exists()


def test_a_dying_kernel_is_explained(tmp_path):
    path = write_notebook(tmp_path / "nb", "01_dies", "import os\nos._exit(9)")
    code, text = run_all([path])
    assert code == 1 and "the kernel died" in text


def test_ctrl_c_exits_130_says_how_to_continue_and_stops_the_kernel(tmp_path):
    path = write_notebook(tmp_path / "nb", "01_slow", "import os, time\nprint('pid', os.getpid())\ntime.sleep(60)")
    script = (
        "import signal, sys\nfrom pathlib import Path\nfrom vr1kit import reproduce as p\nfrom vr1kit.runs import open_run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs inherit that it is ignored
        f"run = open_run('toy')\ntasks = p.plan(run, [Path({str(path)!r})], 'tiny', {{}}, {{}})\n"
        "sys.exit(p.run_tasks(run, tasks, p.Screen(), 'vr1kit reproduce --run toy'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=project_root(), stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )  # fmt: skip
    lines = []
    while not (lines and lines[-1].strip().startswith("pid ")):
        lines.append(process.stdout.readline())
        assert lines[-1], f"ended too early: {lines}"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)  # 2 s on a free machine
    assert process.returncode == 130
    assert "Interrupted in 01_slow" in rest and "vr1kit reproduce --run toy" in rest
    kernel = int(lines[-1].split()[1])
    for _ in range(50):
        if not is_alive(kernel):
            break
        time.sleep(0.1)
    assert not is_alive(kernel)


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_unknown_parameters_are_refused_before_anything_runs(tmp_path, runs_folder):
    first = write_notebook(tmp_path / "nb", "01_first", "1", header=HEADER + "\nseeds: int = 1")
    lacking = write_notebook(tmp_path / "nb", "02_lacking", "1", header="run: str = 'tiny'  # a = hides\nprofil = 'tiny'")
    with pytest.raises(RunError, match=r"02_lacking does not know the parameter 'profile'|does not know .* 'run'"):
        pipeline.plan(open_run("toy"), [first, lacking], "tiny", {}, {})
    with pytest.raises(RunError, match="no notebook has a parameter 'sedes'; there are: profile, run, seeds"):
        pipeline.plan(open_run("toy"), [first], "tiny", {"sedes": 2}, {})
    with pytest.raises(RunError, match="parameter 'seeds' of notebook 01_first is int, not '1e-6'"):
        pipeline.plan(open_run("toy"), [first], "tiny", {"seeds": "1e-6"}, {})
    untagged = write_notebook(tmp_path / "nb", "03_untagged", "1", header=None)
    with pytest.raises(RunError, match="no cell tagged 'parameters'"):
        pipeline.plan(open_run("toy"), [untagged], "tiny", {}, {})
    with pytest.raises(RunError, match="is not there"):
        pipeline.plan(open_run("toy"), [tmp_path / "nb" / "09.ipynb"], "tiny", {}, {})
    assert not runs_folder.exists()


def test_parameters_reach_only_the_notebooks_that_know_them(tmp_path):
    first = write_notebook(tmp_path / "nb", "01_first", "1", header=HEADER + "\nseeds: int = 1")
    second = write_notebook(tmp_path / "nb", "02_second", "1")
    tasks = pipeline.plan(open_run("toy"), [first, second], "tiny", {"seeds": 2}, {})
    assert [task.parameters.get("seeds") for task in tasks] == [2, None]


def test_frozen_runs_and_unknown_notebooks_are_refused(tmp_path):
    path = write_notebook(tmp_path / "nb", "01_first", "1")
    tasks = pipeline.plan(open_run("toy"), [path], "tiny", {}, {})
    with pytest.raises(RunError, match="take one of 01_first"):
        pipeline.choose(tasks, "07")
    open_run("toy").freeze("by a test")
    with pytest.raises(RunError, match="is frozen: give another run name"):
        pipeline.plan(open_run("toy"), [path], "tiny", {}, {})


def test_time_left_follows_the_pace():
    pace = pipeline.Pace({"a": 60.0, "b": 120.0, "c": 60.0})
    assert pace.left("a", 30) == 30 + 180
    pace.finish("a", 120)  # twice as slow as planned
    assert pace.left("b", 0) == 2 * 180
    assert pace.left("b", 1000) == pytest.approx(0.1 * 240 + 120), "late is never 'nothing left'"


def test_progress_bars_become_the_status_and_whole_lines_stay():
    out = io.StringIO()
    screen = Screen(out)
    output = NotebookOutput(screen)
    for chunk in ("\r 10%|#  ", "\r 50%|##", "# ", "\r100%|###|\n", "plain\nand", " more\n\x1b[31mred\x1b[0m"):
        output.write(chunk)
        if "50" in chunk:
            assert screen.bar == "50%|##"
    assert out.getvalue() == "      100%|###|\n      plain\n      and more\n"
    assert screen.bar == "red"


def test_a_log_gets_its_status_now_and_then():
    out = io.StringIO()
    screen = Screen(out, log_every=0.05)
    screen.show(lambda: "cell 3/9")
    time.sleep(0.3)
    screen.hide()
    assert out.getvalue().count("cell 3/9\n") >= 2 and "\r" not in out.getvalue()


def test_seconds_are_written_for_people():
    assert [format_seconds(value) for value in (5, 75, 4000)] == ["0:05", "1:15", "1:06:40"]
