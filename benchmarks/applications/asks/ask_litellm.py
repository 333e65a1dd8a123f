import os

import httpx
from common import HTTP, TIMEOUT, must_hold

order = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
key = {"Authorization": f"Bearer {os.environ['LITELLM_MASTER_KEY']}"}
url = "/v1/chat/completions"
with httpx.Client(base_url=HTTP, headers=key, timeout=TIMEOUT) as client:
    must_hold(client.get("/v1/models").text, "mock")
    must_hold(client.post(url, json=order).text, "hello from litellm")
    with client.stream("POST", url, json={**order, "stream": True}) as response:
        must_hold("".join(response.iter_lines()), "[DONE]")
