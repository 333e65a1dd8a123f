"""Writes the database of Prefect's server; the server is its own application."""

import asyncio

from prefect.server.database import provide_database_interface

if __name__ == "__main__":
    asyncio.run(provide_database_interface().create_db())
