import json

import httpx
from common import HTTP, TIMEOUT, get

get("/", "gradio")
# The queue is in the memory of one worker, so the call and its event stream use one connection.
with httpx.Client(base_url=HTTP, timeout=TIMEOUT, limits=httpx.Limits(max_connections=1)) as client:
    answer = client.post("/gradio_api/call/greet", json={"data": ["client"]})
    assert answer.status_code == 200, answer.text
    event = answer.json()["event_id"]
    with client.stream("GET", f"/gradio_api/call/greet/{event}") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: ") and json.loads(line[6:]) == ["hello client"]:
                break
        else:
            raise AssertionError("the result did not come")
