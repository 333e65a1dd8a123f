"""Connexion: a specification first, functions behind it."""

import yaml
from connexion import AsyncApp

SPECIFICATION = """
openapi: 3.0.0
info: {title: items, version: "1"}
paths:
  /items/{number}:
    get:
      operationId: connexion_app.item
      parameters: [{name: number, in: path, required: true, schema: {type: integer}}]
      responses: {"200": {description: an item}}
  /items:
    post:
      operationId: connexion_app.add
      requestBody:
        required: true
        content:
          application/json:
            schema: {type: object, required: [name], properties: {name: {type: string}}}
      responses: {"200": {description: the item}}
"""


async def item(number: int):
    return {"id": number}


def add(body: dict):
    return {"name": body["name"]}


app = AsyncApp(__name__)
app.add_api(yaml.safe_load(SPECIFICATION))
