import json

from common import TIMEOUT, WS, get, must_hold
from websockets.sync.client import connect

get("/", "hello from fasthtml")
with connect(f"{WS}/ws", open_timeout=TIMEOUT, proxy=None) as socket:
    socket.send(json.dumps({"msg": "a word", "HEADERS": {}}))
    must_hold(str(socket.recv(TIMEOUT)), "echo a word")
