"""The command line: help that teaches, one-line errors, exit codes, and no heavy import before it is needed."""

import subprocess
import sys

import pytest

from vr1kit import __version__, cli
from vr1kit.commands.arguments import parse_value
from vr1kit.runs import open_run, project_root


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom vr1kit import cli\ncli.build_parser().format_help()\n"
        "heavy = {'torch', 'transformers', 'papermill', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=project_root(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [["--help"], *([name, "--help"] for name in ("reproduce", "status", "profiles", "plan", "train", "evaluate"))]
)
def test_every_help_has_examples(words, capsys):
    with pytest.raises(SystemExit) as leave:
        cli.main(words)
    assert leave.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text and f"vr1kit {'' if words[0] == '--help' else words[0]}" in text


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == f"vr1kit {__version__}"


def complaint(capsys, *words: str) -> str:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err, captured.err
    return captured.err


def test_bad_input_is_one_line_and_exit_code_2(capsys, runs_folder):
    assert "run name 'a/b' is not usable" in complaint(capsys, "reproduce", "--run", "a/b")
    assert "run name '.x' is not usable" in complaint(capsys, "status", ".x")
    assert "huge" in complaint(capsys, "reproduce", "--run", "mine", "--profile", "huge")
    assert "by --run, not by -p run" in complaint(capsys, "reproduce", "-p", "run", "x")
    assert "there is no run 'mine'; there are: none yet" in complaint(capsys, "status", "mine")
    assert not runs_folder.exists(), "nothing is left behind"


@pytest.mark.parametrize("words", [[], ["unknown"], ["reproduce", "--nope"], ["status"]])
def test_unknown_words_exit_2(words):
    with pytest.raises(SystemExit) as leave:
        cli.main(words)
    assert leave.value.code == 2


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError):
        cli.main(["reproduce", "--run", "a/b", "--debug"])


def test_an_unexpected_error_is_one_line_and_exit_code_1(capsys, monkeypatch):
    def fail(arguments):
        raise KeyError("weights")

    monkeypatch.setattr(cli, "run_profiles", fail)
    assert cli.main(["profiles"]) == 1
    assert capsys.readouterr().err == "vr1kit: KeyError: 'weights' (--debug shows the traceback)\n"


def test_ctrl_c_exits_130(capsys, monkeypatch):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_profiles", interrupt)
    assert cli.main(["profiles"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_parameters_are_json_or_text():
    values = {text: parse_value(text) for text in ("3", "1e-6", "true", "mixed", "[1, 2]", "2026-11-21")}
    assert values == {
        "3": 3,
        "1e-6": 1e-6,
        "true": True,
        "mixed": "mixed",
        "[1, 2]": [1, 2],
        "2026-11-21": "2026-11-21",
    }


def test_status_lists_steps_with_state_time_and_reason(capsys):
    run = open_run("mine")
    data = run.step("data", {"pictures": 10}, code=[])
    data.begin()
    data.finish({})
    train = run.step("policies/mixed/sft", {"seed": 0}, {"data": data}, code=[])
    train.begin()
    assert cli.main(["status", "mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run 'mine': 2 steps"
    assert lines[1].split() == ["done", "data", "0", "s", "done", "and", "unchanged"]
    assert lines[2].split()[:2] == ["missing", "policies/mixed/sft"] and "interrupted" in lines[2]


def test_profiles_are_listed(capsys):
    from vr1kit.profiles import PROFILES

    assert cli.main(["profiles"]) == 0
    text = capsys.readouterr().out
    assert "tiny" in PROFILES and all(name in text for name in PROFILES)
