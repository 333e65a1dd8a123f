"""What a message costs each session of a WebSocket, without its socket: CPU time to read one and to write one.

    python -m benchmarks.websocket_sessions

Take the figures of an installed wheel for our own session: in a checkout it is not compiled.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from asgireload.websocket.session import SessionLimits
from asgireload.websocket.sessions import choose_session, new_session

SIZES = (60, 4096, 262_144)
SECONDS = 0.5
ROUNDS = 5
ROOM = 1 << 30


def client_frame(payload: bytes) -> bytes:
    """Return a frame with a masking key of zeros: what it is has no influence on the time."""
    length = len(payload)
    if length < 126:
        head = bytes((0x82, 0x80 | length))
    elif length < 65536:
        head = bytes((0x82, 0xFE)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x82, 0xFF)) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


def cost(echo: Callable[[], None]) -> float:
    """Return the least CPU time of a call, in microseconds."""
    best = float("inf")
    for _ in range(ROUNDS):
        count = 0
        began = time.process_time()
        while (taken := time.process_time() - began) < SECONDS / ROUNDS:
            for _ in range(10):
                echo()
            count += 10
        best = min(best, taken / count)
    return best * 1e6


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    print("| bytes of a message | builtin, µs | wsproto, µs | times |")
    print("|---|---|---|---|")
    for size in SIZES:
        payload = os.urandom(size)
        data = client_frame(payload)
        costs = []
        for name in ("builtin", "wsproto"):
            session = new_session(
                choose_session(name), SessionLimits(), None, None, is_movable=False
            )

            def echo(session: Any = session, data: bytes = data, payload: bytes = payload) -> None:
                (received,) = session.receive(data, ROOM)
                assert received == payload
                session.send_bytes(received)

            costs.append(cost(echo))
        print(f"| {size} | {costs[0]:.2f} | {costs[1]:.2f} | {costs[1] / costs[0]:.1f} |")


if __name__ == "__main__":
    main()
