from common import TIMEOUT, found, get, must_hold, page_and_socket

get("/panel", "<html")


def token(page: str) -> list[str]:
    return ["bokeh", found(r'"token"\s*:\s*"([^"]+)"', page)]


with page_and_socket("/panel", lambda page: "/panel/ws", token) as socket:
    # A message of Bokeh's protocol is three frames: header, metadata, content.
    must_hold(str(socket.recv(TIMEOUT)), "ACK")
