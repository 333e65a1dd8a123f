"""Forked workers become children of the subreaper, with everything else left in order."""

import subprocess
import sys

PROBE = """
import os, signal, time
from asgireload.ipc.linux import become_subreaper, signal_on_parent_death
from asgireload.template.forking import Side, fork_adopted

become_subreaper()
supervisor = os.getpid()
read, write = os.pipe()
template = os.fork()
if template == 0:
    os.close(read)
    for _ in range(20):
        if fork_adopted() is Side.CHILD:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            signal_on_parent_death(signal.SIGKILL)
            os.write(write, b"%d\\n" % (os.getppid() == supervisor))
            os._exit(7)
    os.write(write, b"%d\\n" % (signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()))
    os._exit(0)
os.close(write)
answers = b""
while chunk := os.read(read, 1000):
    answers += chunk
codes = []
while True:
    try:
        pid, status = os.wait()
    except ChildProcessError:
        break
    codes.append(os.waitstatus_to_exitcode(status))
print(sorted(codes), answers.split())
"""


def test_workers_are_adopted_before_they_run_and_signals_are_restored():
    done = subprocess.run(
        [sys.executable, "-c", PROBE], check=True, capture_output=True, text=True, timeout=30
    )
    codes, answers = done.stdout.strip().split("] [")
    assert codes == "[0" + ", 7" * 20
    assert answers.count("b'1'") == 21
