from common import get

get("/admin/login/", "csrfmiddlewaretoken")
get("/search/?query=welcome", "Search")
