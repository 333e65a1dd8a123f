"""What each compression level makes of WebSocket messages, and what it takes.

`python -m benchmarks.deflate_levels`. With the window and the memory that the server gives a compressor, over
streams of messages as applications send them, each with a compressor of its own. The time is CPU time, the best of
some rounds.
"""

import json
import random
import time
import zlib

from asgireload.websocket import deflate

LEVELS = (1, 2, 3, 4, 5, 6, 9)
ROUNDS = 5
SEED = 1


def main() -> None:
    chance = random.Random(SEED)
    streams = {
        "events": [_event(chance, number) for number in range(500)],
        "a table again and again, a tenth of it new, 3 KB": _tables(chance, rows=40, count=200),
        "the same, 30 KB": _tables(chance, rows=400, count=30),
        "other rows each time, 4 KB": [_rows(chance, 4096) for _ in range(100)],
        "other rows each time, 64 KB": [_rows(chance, 65536) for _ in range(12)],
    }
    print("| messages | level | µs a message | bytes on the wire |")
    print("|---|---:|---:|---:|")
    for name, messages in streams.items():
        for level in LEVELS:
            seconds, share = _compress(messages, level)
            print(f"| {name} | {level} | {seconds * 1e6:.1f} | {share:.1%} |")


def _compress(messages: list[bytes], level: int) -> tuple[float, float]:
    """Return CPU seconds for each message, and the part of its bytes that is left."""
    seconds = float("inf")
    for _ in range(ROUNDS):
        written = 0
        began = time.process_time()
        compressor = deflate.new_compressor(deflate.SEND_WINDOW_BITS, level)
        for message in messages:
            compressed = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
            written += len(compressed) - len(deflate.TAIL)
        seconds = min(seconds, time.process_time() - began)
    return seconds / len(messages), written / sum(map(len, messages))


def _event(chance: random.Random, number: int) -> bytes:
    event = {
        "event": "update",
        "room": f"room-{chance.randrange(20)}",
        "user": chance.randrange(1000),
        "status": chance.choice(["online", "away", "typing"]),
        "at": 1_700_000_000 + number,
        "token": f"{chance.getrandbits(128):x}",
    }
    return json.dumps(event).encode()


def _row(chance: random.Random, number: int) -> dict[str, object]:
    return {
        "id": number,
        "name": "".join(chance.choices("ABCDEFGH", k=4)),
        "price": round(chance.random() * 100, 2),
        "active": chance.random() < 0.5,
        "volume": chance.randrange(10**6),
    }


def _rows(chance: random.Random, size: int) -> bytes:
    rows = [_row(chance, chance.randrange(10**6)) for _ in range(size // 60)]
    return json.dumps(rows).encode()[:size]


def _tables(chance: random.Random, *, rows: int, count: int) -> list[bytes]:
    table = [_row(chance, number) for number in range(rows)]
    tables = []
    for _ in range(count):
        for row in chance.sample(table, rows // 10):
            row["price"] = round(chance.random() * 100, 2)
        tables.append(json.dumps(table).encode())
    return tables


if __name__ == "__main__":
    main()
