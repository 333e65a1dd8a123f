"""Ariadne: a query and a subscription."""

from ariadne import QueryType, SubscriptionType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLTransportWSHandler

query, subscription = QueryType(), SubscriptionType()


@query.field("hello")
def hello(*_):
    return "hello from ariadne"


@subscription.source("count")
async def count_source(*_):
    for number in range(3):
        yield number


@subscription.field("count")
def count(number, *_):
    return number


schema = make_executable_schema(
    "type Query { hello: String! } type Subscription { count: Int! }", query, subscription
)
app = GraphQL(schema, execute_get_queries=True, websocket_handler=GraphQLTransportWSHandler())
