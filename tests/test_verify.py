"""A run is what its manifests say, or each thing that is not is named."""

import json

import pytest

from vr1kit import cli
from vr1kit.runs import RunError, open_run
from vr1kit.safekeeping.files import read_json, write_json_atomic
from vr1kit.safekeeping.verify import verify_run


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def make(value=1, run="demo"):
    """Two steps, the second made from the first."""
    data = open_run(run).step("data", {"n": value}, code=["boxes"])
    data.begin()
    data.write_json("pictures.json", {"value": value})
    data.finish({})
    train = open_run(run).step("policies/a", {"rate": 0.1}, {"data": data, "base": "abc"}, code=["boxes"])
    train.begin()
    (train.path / "model").mkdir()
    (train.path / "model" / "weights.safetensors").write_bytes(b"12345")
    train.finish({"AP": 1.0})
    return open_run(run)


def test_an_untouched_run_has_no_faults(runs_folder, capsys):
    run = make()
    verdict = verify_run(run)
    assert (verdict.steps, verdict.faults, verdict.unfinished) == (2, [], []) and verdict.files >= 6
    assert cli.main(["verify", "runs/demo/"]) == 0
    assert f"run 'demo': 2 steps, {verdict.files} files, 0 faults" in capsys.readouterr().out


def edit_manifest(run, change, step="policies/a"):
    path = run.path / step / "manifest.json"
    manifest = read_json(path)
    change(manifest)
    write_json_atomic(path, manifest)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda r: (r.path / "data" / "pictures.json").write_text('{"value":2}\n'), "data: pictures.json was altered"),
        (lambda r: (r.path / "policies/a/model/weights.safetensors").write_bytes(b"12346"), "model/weights.safetensors was altered"),
        (lambda r: (r.path / "policies/a/model/weights.safetensors").unlink(), "model/weights.safetensors is missing"),
        (lambda r: (r.path / "policies/a/model/more.bin").write_bytes(b""), "policies/a: model/more.bin is in no manifest"),
        (lambda r: (r.path / "policies/a/manifest.json").write_text('{"step": "po'), "is not valid JSON"),
        (lambda r: (r.path / "policies/a/manifest.json").write_bytes(b"\xff\xfe"), "is not valid JSON"),
        (lambda r: (r.path / "policies/a/manifest.json").write_text("[]"), "is not what vr1kit wrote there"),
        (lambda r: edit_manifest(r, lambda m: m.pop("artefacts")), "is not what vr1kit wrote there"),
        (lambda r: edit_manifest(r, lambda m: m["artefacts"].update(x=3)), "artefacts without a hash"),
        (lambda r: edit_manifest(r, lambda m: m["config"].update(rate=0.2)), "do not add up to its fingerprint"),
        (lambda r: edit_manifest(r, lambda m: m.update(step="b")), "its manifest is that of step 'b'"),
        (lambda r: edit_manifest(r, lambda m: m["artefacts"].update({"../x": {"size": 1, "sha256": "0"}})), "outside of its folder"),
        (lambda r: edit_manifest(r, lambda m: m["artefacts"].update({"/etc/passwd": {"size": 1, "sha256": "0"}})), "outside of its"),
    ],
)  # fmt: skip
def test_every_damage_is_named(damage, fault, capsys):
    run = make()
    damage(run)
    faults = verify_run(run).faults
    assert any(fault in found for found in faults), faults
    assert cli.main(["verify", "demo"]) == 1
    assert fault in capsys.readouterr().out


def test_a_result_whose_input_was_made_anew_is_named():
    run = make()
    data = run.step("data", {"n": 2}, code=["boxes"])
    data.begin()
    data.write_json("pictures.json", {"value": 2})
    data.finish({})
    assert verify_run(run).faults == ["policies/a: was made from another data than data holds now"]


def test_an_unfinished_step_is_no_fault_and_no_run_is_one_clear_line():
    run = make()
    run.step("later", {}, code=["boxes"]).begin()
    verdict = verify_run(run)
    assert verdict.unfinished == ["later"] and not verdict.faults
    with pytest.raises(RunError, match="there is no run 'nowhere'"):
        verify_run(open_run("nowhere"))


def test_a_published_run_may_lack_its_large_files_but_no_small_one():
    run = make()
    (run.path / "policies/a/model/weights.safetensors").unlink()
    run.freeze("by a test")
    verdict = verify_run(run)
    assert verdict.left_behind == 1 and not verdict.faults
    (run.path / "policies/a/metrics.json").unlink()
    assert verify_run(run).faults == ["policies/a: metrics.json is missing"]


def test_the_hash_is_not_taken_from_a_cache(runs_folder):
    """The same size and time, other bytes: `status` trusts its cache, `verify` does not."""
    import os

    run = make()
    path = run.path / "data" / "pictures.json"
    before = path.stat()
    path.write_text(path.read_text().replace("1", "2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert any("pictures.json was altered" in fault for fault in verify_run(run).faults)


def test_what_is_published_with_this_checkout_is_whole(monkeypatch):
    monkeypatch.delenv("VR1KIT_RUNS")
    verdict = verify_run(open_run("published"))
    assert verdict.faults == [] and verdict.steps > 10
    assert json.dumps(verdict.unfinished) == "[]"
