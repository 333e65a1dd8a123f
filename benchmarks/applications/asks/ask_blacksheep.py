from common import echoes, get

get("/items/7", "7")
echoes("/ws")
