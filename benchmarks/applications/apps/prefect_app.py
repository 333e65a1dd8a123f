"""Writes the database of Prefect's server; the server is its own application.

With the types of blocks, too: each worker adds them when it starts, and of two that find none one fails.
"""

import asyncio

from prefect.server.database import provide_database_interface
from prefect.server.models.block_registration import run_block_auto_registration


async def prepare() -> None:
    database = provide_database_interface()
    await database.create_db()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)


if __name__ == "__main__":
    asyncio.run(prepare())
