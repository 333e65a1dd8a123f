from common import get

get("/data/rows", "row 7")
get("/data/rows/7.json", "row 6")
get("/-/versions.json", "datasette")
