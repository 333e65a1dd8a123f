import asyncio
import os

from common import HTTP

os.environ["PREFECT_API_URL"] = f"{HTTP}/api"
os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"

from prefect import flow
from prefect.client.orchestration import get_client


@flow
def double(number: int) -> int:
    return number * 2


async def runs() -> int:
    async with get_client() as client:
        return len(await client.read_flow_runs())


assert double(4) == 8
assert asyncio.run(runs()) >= 1
