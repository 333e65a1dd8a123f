"""Strawberry in FastAPI: a query and a subscription."""

from collections.abc import AsyncGenerator

import fastapi
import strawberry
from strawberry.fastapi import GraphQLRouter


@strawberry.type
class Query:
    @strawberry.field
    def hello(self) -> str:
        return "hello from strawberry"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self) -> AsyncGenerator[int, None]:
        for number in range(3):
            yield number


app = fastapi.FastAPI()
app.include_router(
    GraphQLRouter(strawberry.Schema(Query, subscription=Subscription)), prefix="/graphql"
)
