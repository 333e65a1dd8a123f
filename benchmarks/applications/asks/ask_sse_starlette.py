import httpx
from common import HTTP, TIMEOUT, get

get("/short", "data: 2")
with httpx.stream("GET", f"{HTTP}/endless", timeout=TIMEOUT) as response:
    for line in response.iter_lines():
        if line == "data: 3":
            break
    else:
        raise AssertionError("the stream ended")
