import json

from common import TIMEOUT, WS, get
from websockets.sync.client import connect

get("/notebook/", "marimo")
with connect(f"{WS}/notebook/ws?session_id=s_abc123", open_timeout=TIMEOUT, proxy=None) as socket:
    for _ in range(200):
        message = json.loads(socket.recv(TIMEOUT))
        if "hello from marimo" in json.dumps(message):
            break
    else:
        raise AssertionError("the cell was not run")
