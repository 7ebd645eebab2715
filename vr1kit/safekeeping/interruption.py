"""Ctrl-C and SIGTERM mean the same: save at the next step, and end within 20 seconds.

A training finishes its step, saves and stops (`stop_at_next_step`); everything else stops at once, since whatever is done
is a finished step on disk. Processes of a pool are asked to stop when the one that started them is stopped, fails or dies,
and killed if they have not in time. A second Ctrl-C does not wait.
"""

import _thread
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

GRACE = 12.0  # s for the step that runs and its checkpoint; ours: Slurm's notice is 30 s, Kubernetes' too
PATIENCE = 16.0  # s until a process that was asked to stop is killed


@dataclass
class Stop:
    """Has it been asked to stop?"""

    requested: bool = False


@contextmanager
def stop_at_next_step() -> Iterator[Stop]:
    """Within, Ctrl-C and SIGTERM only set `requested`; KeyboardInterrupt follows after GRACE seconds, or at a second Ctrl-C.

    Whoever asks `requested` should save and leave; leaving raises KeyboardInterrupt if it was requested. Outside of the
    main thread nothing is caught.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    clock = threading.Timer(GRACE, _thread.interrupt_main)
    clock.daemon = True

    def request(number, frame):
        if not stop.requested:
            stop.requested = True
            clock.start()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        clock.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.requested:
        raise KeyboardInterrupt


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within, SIGTERM raises KeyboardInterrupt, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def worker_pool(n: int, method: str | None = "spawn") -> Iterator[ProcessPoolExecutor]:
    """`n` processes that stop with this one, saving first; an error within stops them, too. `method` None: the platform's own."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(n, multiprocessing.get_context(method), initializer=_follow_parent)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _stop_processes([child for child in multiprocessing.active_children() if child not in before])
        raise
    pool.shutdown()


def _stop_processes(processes: Sequence[multiprocessing.Process]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        if process.is_alive():
            process.kill()


def _follow_parent() -> None:
    """In a process of a pool: Ctrl-C is the parent's business; if the parent dies, save and end, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(130)
