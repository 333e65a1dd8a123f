import httpx
from common import HTTP, TIMEOUT, get

get("/ui/", "swagger")
answer = httpx.post(f"{HTTP}/items", json={"name": "new"}, timeout=TIMEOUT)
assert answer.json() == {"name": "new"}, answer.text
answer = httpx.post(f"{HTTP}/items", json={"name": 3}, timeout=TIMEOUT)
assert answer.status_code == 400, answer
