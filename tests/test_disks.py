"""A full disk is foreseen, recognised whoever meets it, and named."""

import errno
import os
from pathlib import Path

import pytest

from vr1kit.runs import open_run
from vr1kit.safekeeping import files
from vr1kit.safekeeping.disks import DiskFull, describe_disk, find_mount, is_full_disk, require_space


def test_room_is_asked_for_in_advance_also_for_what_is_not_there_yet(tmp_path):
    require_space(tmp_path / "not" / "yet", 1000, "a step")
    with pytest.raises(DiskFull, match=r"step 'x' needs about 1000000000.0 GB, more than the disk at / ?.*free\) has: make room"):
        require_space(tmp_path / "not" / "yet", 10**18, "step 'x'")


def test_the_disk_is_named_by_where_it_is_mounted(tmp_path):
    assert os.path.ismount(find_mount(tmp_path)) and tmp_path.resolve().is_relative_to(find_mount(tmp_path))
    assert str(find_mount(tmp_path)) in describe_disk(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError(errno.EFBIG, os.strerror(errno.EFBIG)),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),  # torch.save
        DiskFull("x"),
    ],
)
def test_it_is_recognised_in_whatever_a_library_says(error):
    assert is_full_disk(error)


def test_other_errors_are_not_taken_for_it():
    assert not is_full_disk(FileNotFoundError(errno.ENOENT, "no such file")) and not is_full_disk("spaces left and right")


def test_a_step_does_not_begin_without_room(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path))
    step = open_run("a").step("data", {}, code=[])
    with pytest.raises(DiskFull, match="step 'data' needs about"):
        step.begin(10**18)
    assert step.state() == "missing"
    assert step.begin() is False


class FullDisk:
    """A file that takes so many characters and no more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *what):
        return self.file.__exit__(*what)

    def write(self, text):
        self.room -= len(text)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(text)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 10, 100])
def test_a_write_that_finds_the_disk_full_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path, monkeypatch, room):
    files.write_json_atomic(tmp_path / "x.json", {"old": 1})
    monkeypatch.setattr(files, "open", lambda *a, **k: FullDisk(open(*a, **k), room), raising=False)
    with pytest.raises(OSError, match="No space left"):
        files.write_json_atomic(tmp_path / "x.json", {"new": "x" * 200})
    monkeypatch.undo()
    assert files.read_json(tmp_path / "x.json") == {"old": 1}
    assert [path.name for path in Path(tmp_path).iterdir()] == ["x.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with files.open_folder_atomic(tmp_path / "model") as folder:
        (folder / "a").write_text("1")
    with pytest.raises(OSError), files.open_folder_atomic(tmp_path / "model") as folder:
        (folder / "a").write_text("2")
        raise OSError(errno.ENOSPC, "full")
    assert (tmp_path / "model" / "a").read_text() == "1"
    with files.open_folder_atomic(tmp_path / "model") as folder:
        (folder / "b").write_text("3")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
