from common import TIMEOUT, found, get, page_and_socket

get("/", "hello from nicegui")


def address(page: str) -> str:
    client = found(r"client_id['\"]?\s*:\s*['\"]([0-9a-f-]{36})", page)
    query = f"client_id={client}&tab_id=tab&document_id=document&implicit_handshake=true"
    return f"/_nicegui_ws/socket.io/?EIO=4&transport=websocket&{query}"


with page_and_socket("/", address, lambda page: []) as socket:
    assert str(socket.recv(TIMEOUT)).startswith("0{")
    socket.send("40")
    for _ in range(20):
        message = str(socket.recv(TIMEOUT))
        if message == "2":
            socket.send("3")
        elif message.startswith("40{"):
            break
    else:
        raise AssertionError(f"no connection of Socket.IO: {message}")
