import httpx
from common import HTTP, TIMEOUT, get

get("/items/7", "7")
get("/stream", "part 2")
answer = httpx.post(f"{HTTP}/upload", content=b"x" * 1_000_000, timeout=TIMEOUT)
assert answer.json() == {"length": 1_000_000}, answer.text
