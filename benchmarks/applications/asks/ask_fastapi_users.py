import uuid

import httpx
from common import HTTP, TIMEOUT

name, password = f"{uuid.uuid4().hex}@example.com", "for this run only"
with httpx.Client(base_url=HTTP, timeout=TIMEOUT) as client:
    answer = client.post("/register", json={"email": name, "password": password})
    assert answer.status_code == 201, answer.text
    answer = client.post("/login", data={"username": name, "password": password})
    token = answer.json()["access_token"]
    answer = client.get("/greeting", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == f"hello {name}", answer.text
