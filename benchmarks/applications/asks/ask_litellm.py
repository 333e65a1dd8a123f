import httpx
from common import HTTP, TIMEOUT, get, must_hold

get("/v1/models", "mock")
order = {"model": "mock", "messages": [{"role": "user", "content": "hello"}]}
url = f"{HTTP}/v1/chat/completions"
must_hold(httpx.post(url, json=order, timeout=TIMEOUT).text, "hello from litellm")
with httpx.stream("POST", url, json={**order, "stream": True}, timeout=TIMEOUT) as response:
    must_hold("".join(response.iter_lines()), "[DONE]")
