from common import echoes, get

get("/items/7", "7")
get("/stream", "part 2")
echoes("/ws")
