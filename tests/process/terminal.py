"""A server in a terminal of its own, as a developer has it: what it shows, and the keys that are pressed."""

import contextlib
import fcntl
import os
import pty
import subprocess
import termios
import threading
import time

from tests.process.running import Server, wait_until

CTRL_C = b"\x03"


class TerminalServer(Server):
    """Like `Server`; standard input and output are the terminal. What it shows is the log."""

    def launch(self):
        ours, theirs = pty.openpty()
        self._terminal = ours
        self.log_path.write_bytes(b"")
        self._reader = threading.Thread(target=self._copy)
        self.process = subprocess.Popen(
            self.command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **self._start,
        )
        os.close(theirs)
        self._reader.start()
        return self

    def _copy(self):
        with self.log_path.open("ab", buffering=0) as log:
            # EIO: the last process that had the terminal has ended.
            with contextlib.suppress(OSError):
                while piece := os.read(self._terminal, 65536):
                    log.write(piece)

    def press(self, keys):
        os.write(self._terminal, keys)

    def interrupt(self, *, timeout=10.0, every=0.5):
        """Press Ctrl-C, as often as an impatient user does, and return the exit status."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.log
            with contextlib.suppress(OSError):
                self.press(CTRL_C)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(every)
        return self.process.returncode

    def wait_shown(self, text, count=1):
        wait_until(lambda: self.log.count(text) >= count, what=f"{count} times {text!r}")

    def _destroy(self):
        super()._destroy()
        self._reader.join()
        os.close(self._terminal)
