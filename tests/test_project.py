"""The repository as a whole: pins agree, the Makefile sets up what it says, and no file knows the machine it was made on."""

import csv
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from licences import is_compatible, list_licences

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(r"([A-Za-z0-9_.-]+)==([^\s;+]+)")
# Folders of somebody's machine: absolute homes and workspaces, as they slip into notebook outputs and logs.
MACHINE_PATHS = re.compile(r"(?<![\w.:/-])/(?:work|root|private|Users/\w+|home/\w+|tmp/\w{3,})(?:/|\b)")


def pins(lines: list[str]) -> dict[str, str]:
    found = [match.groups() for line in lines if (match := PIN.fullmatch(line.strip()))]
    return {name.lower().replace("_", "-"): version for name, version in found}


def declared() -> dict[str, str]:
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    assert len(pins(lines)) == len(lines), "every dependency is pinned exactly"
    return pins(lines)


def test_conda_gets_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert pins(listed) == declared()
    assert "--editable ." in listed and "--constraint requirements.lock.txt" in listed


def test_the_lock_holds_every_declared_pin_and_nothing_but_pins():
    lines = [line for line in (ROOT / "requirements.lock.txt").read_text().splitlines() if not line.startswith("#")]
    locked = pins(lines)
    assert len(locked) == len(lines), "only `name==version`, no local versions, no addresses"
    assert declared().items() <= locked.items()
    assert locked["torch"] == "2.13.0"


def test_every_locked_pin_has_hashes():
    text = (ROOT / "requirements.hashes.txt").read_text()
    blocks = re.findall(r"^([A-Za-z0-9_.-]+==\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    assert pins([pin for pin, _ in blocks]) == pins((ROOT / "requirements.lock.txt").read_text().splitlines())
    assert all(hashes for _, hashes in blocks)


def test_every_locked_package_has_a_licence_that_goes_with_ours():
    rows = list_licences()
    assert not [row for row in rows if not row["compatible"]]
    assert len(rows) > 100, "too few are installed to say anything"


def test_the_list_of_licences_is_of_the_locked_versions():
    listed = csv.DictReader((ROOT / "benchmarks" / "licences.csv").open())
    locked = pins((ROOT / "requirements.lock.txt").read_text().splitlines())
    assert pins([f"{row['package']}=={row['version']}" for row in listed]) == locked


def test_a_licence_that_does_not_go_with_ours_is_found():
    assert is_compatible("BSD-3-Clause AND MIT") and is_compatible("Mozilla Public License 2.0 (MPL 2.0)")
    assert not any(map(is_compatible, ["", "UNKNOWN", "GNU GPLv3", "AGPL-3.0", "MIT AND Proprietary", "LGPL-2.1 AND BSD"]))


def test_no_file_names_an_index_to_install_from():
    for name in ("pyproject.toml", "environment.yml", "requirements.lock.txt", "requirements.hashes.txt", "Makefile", ".ci/run"):
        text = (ROOT / name).read_text()
        assert not re.search(r"index-url|find-links|trusted-host", text), name


def test_the_version_is_said_once():
    from vr1kit import __version__

    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_readme_says_of_faults_what_the_trials_left():
    said = " ".join((ROOT / "README.md").read_text().split())
    kills, full = (json.loads((ROOT / "tests/faults" / f"{name}.json").read_text()) for name in ("kills", "full_disk"))
    assert not kills["problems"] and not full["problems"]
    files = {run["files"] for run in kills["compared"] if not run["differences"]}
    assert (
        f"{kills['kills']} of {len(kills['events'])} kills and stops at random moments went on to the same {files.pop()} files"
        in said
    )
    ended = [event for event in full["events"] if event["code"]]
    assert f"{sum(event['names the disk'] for event in ended)} of {len(ended)} full disks were named" in said
    fuzz = list(csv.DictReader((ROOT / "benchmarks/fuzz.csv").open()))
    assert f"{sum(int(row['cases']) for row in fuzz):,} random answers" in said and not any(int(row["wrong"]) for row in fuzz)


def test_make_test_runs_unit_tests_before_notebooks_and_ci_calls_it():
    plan = subprocess.run(["make", "-n", "test", "PYTHON=python3"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert -1 < plan.stdout.find('-m "not slow"') < plan.stdout.find("--nbval ")
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text and "9. Accepting Warranty" in text and "END OF TERMS" in text


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_folder_of_the_machine_it_was_made_on():
    found = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and weights
        match = MACHINE_PATHS.search(text)
        if match:
            found.append(f"{path.relative_to(ROOT)}: {text[match.start() : match.start() + 40]!r}")
    assert not found, "\n".join(found)


def test_the_search_for_machine_paths_finds_some_and_leaves_others():
    machine = [
        "/" + "work/main/x.py",
        "'/" + "root/.cache'",
        'File "/' + 'home/ann/vr1kit/x.py"',
        "/" + "tmp/abc123/out",
    ]
    assert all(MACHINE_PATHS.search(text) for text in machine)
    harmless = [
        "https://host.org/work/x",
        "notebooks/work/x",
        "a/root/b",
        "/path/to/python3",
        "/proc/cpuinfo",
        "3/work",
    ]
    assert not any(MACHINE_PATHS.search(text) for text in harmless)
