from common import get

get("/admin/", "hello from starlette-admin")
get("/admin/user/list", "user 1")
get("/admin/user/create", "<form")
