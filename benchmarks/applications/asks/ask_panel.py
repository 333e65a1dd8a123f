import json
import re

from common import TIMEOUT, WS, get, must_hold
from websockets.sync.client import connect

page = get("/panel", "<html")
token = re.search(r'"token"\s*:\s*"([^"]+)"', page)
assert token, page[-2000:]
with connect(f"{WS}/panel/ws", subprotocols=["bokeh", token[1]], open_timeout=TIMEOUT) as socket:
    must_hold(str(socket.recv(TIMEOUT)), "ACK")
    must_hold(str(json.loads(socket.recv(TIMEOUT))), "")
