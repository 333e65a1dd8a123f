"""Hello from FastAPI: a JSON answer, as its first page shows."""

from fastapi import FastAPI

app = FastAPI(openapi_url=None)


@app.get("/")
async def hello():
    return {"message": "Hello, world!"}
