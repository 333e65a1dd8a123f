"""A process that was started for a supervisor that died at once does not begin."""

import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "asgireload.template.main",
        "asgireload.development.template.main",
        "asgireload.development.template.library_base",
    ],
)
def test_an_order_of_a_supervisor_that_has_died_is_not_carried_out(module):
    """The kernel tells of its death only who has asked before; an import may take for ever."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        with ours:
            ours.send(b"an order")
        done = subprocess.run(
            [sys.executable, "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
