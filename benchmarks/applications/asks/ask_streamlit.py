from common import TIMEOUT, WS, get
from websockets.sync.client import connect

get("/", "<html")
with connect(
    f"{WS}/_stcore/stream", subprotocols=["streamlit"], open_timeout=TIMEOUT, proxy=None
) as socket:
    socket.send(b"\x5a\x00")  # BackMsg with an empty rerun_script
    for _ in range(50):
        if b"hello from streamlit" in socket.recv(TIMEOUT):
            break
    else:
        raise AssertionError("the script was not run")
