"""`/docs`: the OpenAPI document as a page (Swagger UI), from files that a package brings; nothing from elsewhere.

The page has no script and no style within itself, so that a strict Content-Security-Policy holds. Only `img-src data:`
goes beyond our own origin: the stylesheet has small pictures in it.
"""

from functools import cache
from importlib.resources import files

from flask import Blueprint, Response

from dispatcher.errors import NotFound
from dispatcher.routes import body

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Taskmill API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<main id="api"></main>
<noscript><p>The same, as data: <a href="/openapi.json">/openapi.json</a></p></noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#api", validatorUrl: null, deepLinking: true, defaultModelsExpandDepth: 0,
  docExpansion: "list",
  requestInterceptor: function (request) {  // what changes anything under a browser's cookie needs it (routes/auth.py)
    request.headers["X-Taskmill"] = "docs";
    return request;
  }
});
"""


def blueprint() -> Blueprint:
    """The views."""
    views = Blueprint("docs", __name__)

    @views.get("/docs")
    def page() -> Response:
        body.known_arguments()
        return Response(PAGE, mimetype="text/html", headers={"Content-Security-Policy": POLICY})

    @views.get("/docs/start.js")
    def start() -> Response:
        return Response(START, mimetype="text/javascript")

    @views.get("/docs/<name>")
    def asset(name: str) -> Response:
        if name not in FILES:
            raise NotFound("file")
        return Response(_read(name), mimetype=FILES[name], headers={"Cache-Control": "private, max-age=86400"})

    return views


@cache
def _read(name: str) -> bytes:
    return (files("swagger_ui") / "static" / name).read_bytes()
