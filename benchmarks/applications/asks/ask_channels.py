import os

from common import TIMEOUT, WS, get
from websockets.sync.client import connect

get("/", "hello from channels")
# The layer in memory is that of one worker, so only Redis brings the text to the other one.
count = 4 if "REDIS_URL" in os.environ else 1
sockets = [connect(f"{WS}/chat", open_timeout=TIMEOUT, proxy=None) for _ in range(count)]
sockets[0].send("a word")
for socket in sockets:
    assert socket.recv(TIMEOUT) == "a word"
for socket in sockets:
    socket.close()
