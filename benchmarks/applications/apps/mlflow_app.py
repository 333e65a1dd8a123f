"""Writes the database of mlflow's server; the server is its own application."""

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

if __name__ == "__main__":
    SqlAlchemyStore("sqlite:///mlflow.db", "./artifacts")
