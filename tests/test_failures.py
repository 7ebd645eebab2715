"""From the last words to the likely cause."""

import errno
import os
import time

import pytest

from vr1kit.safekeeping.failures import explain, find_cause, last_log_lines


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("the kernel died: Kernel died", "memory"),
        ("BrokenProcessPool: A process in the process pool was terminated abruptly", "memory"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "GPU's memory"),
        (MemoryError(), "memory is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk at /"),
        ("RuntimeError: job a failed: [Errno 28] No space left on device: 'x'; its log ends:", "the disk at /"),
        ("ModuleNotFoundError: No module named 'trl'", "make setup"),
        ("RunError: run 'a' is in use by process 3 (vr1kit study)", "another process"),
        ("PermissionError: [Errno 13] Permission denied: 'runs'", "rights"),
        ("SafetensorError: Error while deserializing header: InvalidHeaderLength", "vr1kit verify"),
    ],
)
def test_known_last_words_have_a_likely_cause(said, cause, tmp_path):
    assert cause in find_cause(said, tmp_path)


def test_unknown_ones_have_none(tmp_path):
    assert find_cause("ValueError: steps must be positive", tmp_path) is None
    assert explain(ValueError("a\nb"), tmp_path) == "ValueError: a b (--debug shows the traceback)"
    assert explain(MemoryError("x"), tmp_path).endswith(
        "\nmost likely: memory is full: close other programs, or run fewer workers"
    )


def test_the_last_lines_are_of_the_log_written_last_and_not_of_an_old_one(tmp_path):
    assert last_log_lines(tmp_path, 0) is None
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "old.log").write_text("old\n")
    os.utime(tmp_path / "logs" / "old.log", (1, 1))
    assert last_log_lines(tmp_path, time.time() - 60) is None
    (tmp_path / "logs" / "new.log").write_bytes(b"1\n\n10%\r50%\r100%\n\xff" + b"\n".join(b"%d" % n for n in range(2, 9)))
    path, lines = last_log_lines(tmp_path, time.time() - 60)
    assert path.name == "new.log" and lines == [str(n) for n in range(3, 9)]
