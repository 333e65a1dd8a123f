"""A query by POST, and a subscription over graphql-transport-ws; the path is the second argument."""

import json
import sys

import httpx
from common import HTTP, TIMEOUT, WS, must_hold
from websockets.sync.client import connect

path = sys.argv[2]
answer = httpx.post(HTTP + path, json={"query": "{hello}"}, timeout=TIMEOUT)
must_hold(answer.text, "hello from")
with connect(
    WS + path, subprotocols=["graphql-transport-ws"], open_timeout=TIMEOUT, proxy=None
) as socket:
    socket.send(json.dumps({"type": "connection_init"}))
    must_hold(str(socket.recv(TIMEOUT)), "connection_ack")
    order = {"id": "1", "type": "subscribe", "payload": {"query": "subscription {count}"}}
    socket.send(json.dumps(order))
    told = [json.loads(socket.recv(TIMEOUT)) for _ in range(4)]
    assert [message["type"] for message in told] == ["next", "next", "next", "complete"], told
