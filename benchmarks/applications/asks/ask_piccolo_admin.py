import httpx
from common import HTTP, TIMEOUT, get, must_hold

get("/", "<html")
with httpx.Client(base_url=HTTP, timeout=TIMEOUT) as client:
    client.get("/")
    headers = {"X-CSRFToken": client.cookies.get("csrftoken", ""), "Referer": HTTP}
    login = {"username": "admin", "password": "for this run"}
    answer = client.post("/public/login/", json=login, headers=headers)
    assert answer.status_code < 400, answer.text
    must_hold(client.get("/api/tables/guest/").text, "guest 3")
