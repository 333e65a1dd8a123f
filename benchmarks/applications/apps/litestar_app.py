"""Litestar with a dependency, a struct of msgspec and its channels plugin."""

from litestar import Litestar, get
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.di import Provide
from msgspec import Struct


class Item(Struct):
    id: int
    name: str


async def provide_prefix() -> str:
    return "item"


@get("/items/{number:int}", dependencies={"prefix": Provide(provide_prefix)})
async def item(number: int, prefix: str) -> Item:
    return Item(number, f"{prefix} {number}")


@get("/publish")
async def publish(channels: ChannelsPlugin) -> str:
    channels.publish("news", "news")
    return "published"


app = Litestar(
    [item, publish],
    plugins=[
        ChannelsPlugin(MemoryChannelsBackend(), channels=["news"], create_ws_route_handlers=True)
    ],
)
