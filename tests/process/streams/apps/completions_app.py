"""Answers as services for language models give them: an event stream behind a POST, that ends."""

import asyncio
import json

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

VERSION = 1
TOKENS = 150


async def tokens(prompt):
    for number in range(TOKENS):
        delta = {"choices": [{"index": 0, "delta": {"content": f"{prompt}{number} "}}]}
        yield f"data: {json.dumps(delta)}\n\n"
        await asyncio.sleep(0.02)
    yield "data: [DONE]\n\n"


async def complete(request):
    prompt = (await request.json())["prompt"]
    return StreamingResponse(tokens(prompt), media_type="text/event-stream")


async def version(request):
    return PlainTextResponse(str(VERSION))


app = Starlette(
    routes=[Route("/", version), Route("/v1/chat/completions", complete, methods=["POST"])]
)
