from common import get

get("/admin/", "hello from starlette-admin")
get("/admin/user/list", "<html")
get("/admin/api/user?limit=2", "user 1")
