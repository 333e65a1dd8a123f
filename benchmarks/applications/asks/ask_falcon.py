from common import echoes, get

get("/items/7", "7")
get("/events", "data: 2")
echoes("/ws")
