from common import get

get("/chat/", "<html")
get("/chat/project/settings?language=en-US", "threadResumable")
