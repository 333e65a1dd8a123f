import httpx
from common import HTTP, TIMEOUT, get, must_hold

get("/", "react-entry-point")
call = {
    "output": "greeting.children",
    "outputs": {"id": "greeting", "property": "children"},
    "inputs": [{"id": "name", "property": "value", "value": "client"}],
    "changedPropIds": ["name.value"],
}
answer = httpx.post(f"{HTTP}/_dash-update-component", json=call, timeout=TIMEOUT)
must_hold(answer.text, "hello client")
