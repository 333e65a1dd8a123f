"""SQLAdmin in FastAPI over an asynchronous engine."""

import asyncio

import fastapi
from sqladmin import Admin, ModelView
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_async_engine("sqlite+aiosqlite:///data.db")


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class UserAdmin(ModelView, model=User):
    column_list = (User.id, User.name)


app = fastapi.FastAPI()
Admin(app, engine).add_view(UserAdmin)


async def prepare() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        users = [User(name=f"user {number}") for number in range(5)]
        await connection.run_sync(lambda sync: _add(Session(sync), users))
    await engine.dispose()


def _add(session: Session, users: list[User]) -> None:
    session.add_all(users)
    session.flush()


if __name__ == "__main__":
    asyncio.run(prepare())
