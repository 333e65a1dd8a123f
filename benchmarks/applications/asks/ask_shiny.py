import json

from common import TIMEOUT, WS, get
from websockets.sync.client import connect

get("/", "hello from shiny")
with connect(f"{WS}/websocket/", open_timeout=TIMEOUT, proxy=None) as socket:
    data = {"number": 3, ".clientdata_output_doubled_hidden": False}
    socket.send(json.dumps({"method": "init", "data": data}))
    for _ in range(20):
        if "twice is 6" in str(socket.recv(TIMEOUT)):
            break
    else:
        raise AssertionError("the output was not computed")
