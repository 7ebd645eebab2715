"""The processes of a training part without leaving a thread behind that could abort them while Python shuts down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys
from pathlib import Path
import torch, torch.distributed as dist
from vr1kit.scale.ranks import anybody, leave_group

def threads():
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())

dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=int(sys.argv[2]), world_size=2)
held = [dist.group.WORLD]
held.append(held)  # a cycle, as a trainer has
assert anybody(sys.argv[2] == "1"), "one of two was asked"
assert threads() > 0
if sys.argv[3] == "collected":
    del held
    leave_group(failed=sys.argv[2] == "1")  # gloo's processes need not wait for each other
else:
    dist.destroy_process_group()
print(threads())
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="counts threads in /proc")
@pytest.mark.parametrize("how", ["collected", "destroyed"])
def test_no_thread_of_gloo_is_left(how, tmp_path):
    """Destroying the group alone leaves them: `destroyed` shows that the test can fail."""
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "meeting_point")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([*words, rank, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for rank in "01"
    ]
    said = [p.communicate(timeout=120) for p in both]
    assert [int(out) == 0 for out, _ in said] == [how == "collected"] * 2, said
    if how == "collected":
        assert [p.returncode for p in both] == [0, 0], said
