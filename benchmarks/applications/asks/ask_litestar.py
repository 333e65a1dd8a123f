from common import TIMEOUT, WS, get
from websockets.sync.client import connect

get("/items/7", "item 7")
get("/schema/openapi.json", "/items/{number}")
# Memory of one worker: a publication that comes to the other worker reaches nobody here.
with connect(f"{WS}/news", open_timeout=TIMEOUT, proxy=None) as socket:
    for _ in range(100):
        get("/publish", "published")
        try:
            assert socket.recv(0.2) == "news"
            break
        except TimeoutError:
            continue
    else:
        raise AssertionError("nothing was published")
