"""Flask through a2wsgi."""

from a2wsgi import WSGIMiddleware
from flask import Flask, request

flask = Flask(__name__)


@flask.get("/items/<int:number>")
def item(number):
    return {"id": number}


@flask.post("/upload")
def upload():
    return {"length": len(request.get_data())}


@flask.get("/stream")
def stream():
    return (f"part {number}\n" for number in range(3)), {"Content-Type": "text/plain"}


flask.json.compact = True
app = WSGIMiddleware(flask)
