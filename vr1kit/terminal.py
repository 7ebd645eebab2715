"""Progress of a long job, readable in a terminal and in a log file.

In a terminal the last line is alive: what runs now, the elapsed time, the time left, and the newest progress bar
of the notebook. In a log (CI, `tee`, nohup) nothing is ever overwritten: progress is repeated as a line now and
then, often enough to show life and seldom enough to be read.
"""

import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

LOG_EVERY = 60.0  # seconds between repeated progress lines in a log; ours
DRAWN_BAR = re.compile(r"\|[^|]*\|\s*")  # of tqdm; its numbers say the same
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def format_seconds(seconds: float) -> str:
    """75 -> '1:15', 4000 -> '1:06:40'."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Screen:
    """Permanent lines above, one living status line below; the status is asked for, never pushed."""

    def __init__(self, out: TextIO | None = None, log_every: float = LOG_EVERY):
        self.out = sys.stdout if out is None else out
        self.living = self.out.isatty()
        self.log_every = log_every
        self.status: Callable[[], str] | None = None
        self.bar = ""
        self._printed = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def line(self, text: str = "") -> None:
        with self._lock:
            self.out.write(("\r\x1b[2K" if self.living else "") + text + "\n")
            self.out.flush()
            self._printed = time.monotonic()

    def show(self, status: Callable[[], str]) -> None:
        """Keep this status in sight until `hide`."""
        self.status, self.bar, self._stop = status, "", threading.Event()
        threading.Thread(target=self._repeat, args=(self._stop,), daemon=True).start()

    def hide(self) -> None:
        self._stop.set()
        with self._lock:
            self.status = None
            if self.living:
                self.out.write("\r\x1b[2K")
                self.out.flush()

    def _repeat(self, stop: threading.Event) -> None:
        while not stop.wait(1.0 if self.living else min(1.0, self.log_every)):
            self._draw()

    def _draw(self) -> None:
        with self._lock:
            if self.status is None:
                return
            text = " · ".join(part for part in (self.status(), self.bar) if part)
            if self.living:
                width = shutil.get_terminal_size().columns - 1
                fitting = text if len(text) <= width else DRAWN_BAR.sub(" ", text)[:width]
                self.out.write("\r\x1b[2K" + fitting)
                self.out.flush()
            elif time.monotonic() - self._printed >= self.log_every:
                self.out.write(text + "\n")
                self.out.flush()
                self._printed = time.monotonic()


class NotebookOutput:
    """A file that papermill writes a notebook's output to: whole lines go above, `\\r` progress into the status."""

    def __init__(self, screen: Screen, indent: str = "      "):
        self.screen, self.indent, self._rest = screen, indent, ""

    def write(self, text: str) -> None:
        # tqdm writes "\r text": what follows the last "\r" is the bar, until a newline makes it a line.
        *lines, self._rest = (self._rest + ESCAPES.sub("", text)).split("\n")
        for line in lines:
            shown = line.rsplit("\r", 1)[-1].rstrip()
            if shown:
                self.screen.line(self.indent + shown)
        self._rest = self._rest.rsplit("\r", 1)[-1]
        self.screen.bar = "" if lines and not self._rest else self._rest.strip() or self.screen.bar

    def flush(self) -> None:
        """Lines are flushed as they are written."""
