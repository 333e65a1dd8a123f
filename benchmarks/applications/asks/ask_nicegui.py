import re

import requests
import websocket
from common import HTTP, TIMEOUT, WS, must_hold

session = requests.Session()
page = session.get(HTTP, timeout=TIMEOUT)
must_hold(page.text, "hello from nicegui")
found = re.search(r"client_id['\"]?\s*:\s*['\"]([0-9a-f-]{36})", page.text)
assert found, page.text[-2000:]
query = f"EIO=4&transport=websocket&client_id={found[1]}&implicit_handshake=true"
socket = websocket.create_connection(f"{WS}/_nicegui_ws/socket.io/?{query}", timeout=TIMEOUT)
must_hold(socket.recv(), "pingInterval")
socket.send("40")
must_hold(socket.recv(), "40")
socket.close()
