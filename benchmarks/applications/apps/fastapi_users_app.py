"""FastAPI Users with JWT over SQLite."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

import fastapi
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

SECRET = "for this run only"
engine = create_async_engine("sqlite+aiosqlite:///data.db")
make_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def user_manager() -> AsyncIterator[UserManager]:
    async with make_session() as session:
        yield UserManager(SQLAlchemyUserDatabase(session, User))


backend = AuthenticationBackend(
    "jwt", BearerTransport("login"), lambda: JWTStrategy(SECRET, lifetime_seconds=600)
)
users = FastAPIUsers[User, uuid.UUID](user_manager, [backend])
app = fastapi.FastAPI()
app.include_router(users.get_auth_router(backend))
app.include_router(users.get_register_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate))
app.include_router(
    users.get_users_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserUpdate), prefix="/users"
)


@app.get("/greeting")
async def greeting(user: Annotated[User, fastapi.Depends(users.current_user())]) -> str:
    return f"hello {user.email}"


async def prepare() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(prepare())
