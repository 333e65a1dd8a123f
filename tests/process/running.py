"""A real server in a temporary directory: started, watched, asked and always removed with all its children."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from asgireload.admin.client import AdminClient
from asgireload.cli.render import render_reload

START_TIMEOUT = 40
STOP_TIMEOUT = 40
MIXED_APP = (Path(__file__).parent / "mixed_app.py").read_text()


def write_version(directory, version, *, extra=""):
    """Put the mixed application with this version there, `extra` code at its end, in one rename."""
    code = MIXED_APP.replace("VERSION = 1", f"VERSION = {version}") + extra
    temporary = Path(directory) / "app.py.new"
    temporary.write_text(code)
    temporary.rename(Path(directory) / "app.py")


def processes_of_session(session):
    """Return numbers and states of the live processes of a session, zombies of nobody left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(") ", 1)[1].split()
                if int(fields[3]) == session:
                    found[int(entry.name)] = fields[0]
    return found


def wait_until(condition, timeout=20.0, what="condition"):
    """Poll until `condition()` is true and return its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.02)
    return value


class Server:
    """`with Server(directory) as server:` runs the application `app:app` found there."""

    def __init__(self, directory, *options, app="app:app", workers=4, cwd=None, env=None):
        self.directory = Path(directory)
        self.log_path = self.directory / "server.log"
        self.admin_socket = self.directory / "admin.sock"
        self.command = [
            sys.executable,
            *("-m", "asgireload", app),
            *("--workers", str(workers)),
            *(() if {"--bind", "--port"} & set(options) else ("--port", "0")),
            *("--admin-socket", str(self.admin_socket)),
            # Long enough for a new worker to show a fault; what tests of the probation itself need, they say.
            *(() if {"--probation", "--reload"} & set(options) else ("--probation", "0.25")),
            *options,
        ]
        cwd = Path(cwd or directory)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ASGIRELOAD_")}
        # What --reload remembers of imports is this server's own.
        own = {"PWD": str(cwd), "XDG_CACHE_HOME": str(self.directory / ".cache")}
        self._start = {"cwd": cwd, "env": {**inherited, **own, **(env or {})}}
        self.process = None

    def launch(self):
        """Start without waiting for anything."""
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._start,
            )
        return self

    def __enter__(self):
        self.launch()
        try:
            self.wait_log("asgireload running on")
        except BaseException:
            self._destroy()
            raise
        found = re.search(r"running on https?://[^:]+:(\d+)", self.log)
        self.port = int(found[1]) if found else None
        return self

    def __exit__(self, kind, error, trace):
        try:
            if self.process.poll() is None:
                self.kill(signal.SIGTERM)
                self.process.wait(STOP_TIMEOUT)
            if kind is None:
                assert not self.left_behind(), "processes were left behind"
        finally:
            if kind is not None:
                print(self.log)
            self._destroy()

    def _destroy(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in processes_of_session(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- looking ----------------------------------------------------------------------------------

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self.log_path.read_text()

    def wait_log(self, text, timeout=START_TIMEOUT):
        """Wait until the log contains `text`. Fail at once when the server ends."""

        def seen():
            if text in self.log:
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            return False

        wait_until(seen, timeout, f"{text!r} in the log")

    def status(self):
        """What `asgireload status --json` prints. Asked for without a process, as tests ask again and again."""
        status, answer = AdminClient(str(self.admin_socket)).request("GET", "/status")
        assert status == 200, answer
        return answer

    def workers(self, state="ready"):
        return [worker for worker in self.status()["workers"] if worker["state"] == state]

    def worker_pids(self):
        return [worker["pid"] for worker in self.workers()]

    def processes(self):
        """Living processes of the tree, the supervisor included."""
        return [pid for pid, state in processes_of_session(self.pid).items() if state != "Z"]

    def left_behind(self):
        deadline = time.monotonic() + 5
        while (left := [pid for pid in self.processes() if pid != self.pid]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.02)
        return left

    def get(self, path="/", timeout=10.0):
        """Return the body of one answer on a new connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as client:
            client.sendall(f"GET {path} HTTP/1.0\r\nhost: test\r\n\r\n".encode())
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return answer.split(b"\r\n\r\n", 1)[1].decode()

    def version(self):
        return int(self.get().split()[0])

    # --- commands ---------------------------------------------------------------------------------

    def control(self, *arguments, timeout=60):
        """Run a control command and return the finished process."""
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "asgireload",
                *arguments,
                "--admin-socket",
                str(self.admin_socket),
            ],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self._start["cwd"],
            env=self._start["env"],
        )

    def reload(self, *, ok=True, timeout=60):
        """Reload, wait for the verdict, which must be good or bad as said, and return it as it is shown.

        Asked for without a process, as tests reload hundreds of times; tests of the command itself start it.
        """
        client = AdminClient(str(self.admin_socket))
        status, answer = client.request("POST", "/reload?wait=1", timeout)
        assert (status == 200) is ok, answer
        told = render_reload(answer if ok else answer["reload"])
        return told if ok else f"{told}{answer['detail']}\n"

    def kill(self, number):
        os.kill(self.pid, number)

    def stop(self, number=signal.SIGTERM, timeout=STOP_TIMEOUT):
        """Stop and return the exit status."""
        self.kill(number)
        return self.process.wait(timeout)
