"""Starlette-Admin over SQLAlchemy."""

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.applications import Starlette
from starlette_admin.contrib.sqla import Admin, ModelView

engine = create_engine("sqlite:///data.db")


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


app = Starlette()
admin = Admin(engine, title="hello from starlette-admin", secret_key="for this run only")
admin.add_view(ModelView(User))
admin.mount_to(app)

if __name__ == "__main__":
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(User(name=f"user {number}") for number in range(5))
