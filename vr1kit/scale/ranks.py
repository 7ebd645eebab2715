"""What the processes of one training agree on, and how they part."""

from __future__ import annotations

import gc

import torch
import torch.distributed as dist


def anybody(asked: bool) -> bool:
    """Whether one of the processes was asked: a signal may reach them in different steps, and all must stop in the same."""
    if not dist.is_initialized():
        return asked
    flag = torch.tensor(int(asked), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def leave_group(failed: bool = False) -> None:
    """The last thing a process does: leave the others and have the threads that talked to them end.

    A thread of gloo's that still lets go of a tensor while Python shuts down aborts the process, now and then, after all its work
    (torch issue 190489). Destroying the group ends the threads only when nothing holds it any more, and trainers are in cycles:
    so garbage is collected. A process that failed does not wait for the others where they may never come (NCCL).
    """
    if not dist.is_initialized() or (failed and dist.get_backend() != "gloo"):
        return
    dist.destroy_process_group()
    gc.collect()
