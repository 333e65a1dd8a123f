from common import get

get("/api/items/7", "row 7")
get("/api/openapi.json", "/api/items/{number}")
