"""The files of the page at `/`, which asks the service's own routes and nobody else.

They hold no data, so they need no token; the page asks for it and sends it with each request.
"""

from importlib.resources import files

from fastapi import FastAPI, Response

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page/history.js": ("history.js", "text/javascript; charset=utf-8"),
    "/page/service.js": ("service.js", "text/javascript; charset=utf-8"),
    "/page/typing.js": ("typing.js", "text/javascript; charset=utf-8"),
    "/page/elements.js": ("elements.js", "text/javascript; charset=utf-8"),
    "/page/answers.js": ("answers.js", "text/javascript; charset=utf-8"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    # Nothing is loaded from, sent to or shown in another address, and no text becomes a program or a style.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(service: FastAPI) -> None:
    """The page and its files, read once."""
    for path, (name, kind) in FILES.items():
        content = files("seqrec_cli.serving").joinpath("page", name).read_bytes()
        _add_file(service, path, content=content, kind=kind)


def _add_file(service: FastAPI, path: str, *, content: bytes, kind: str) -> None:
    async def file() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    service.add_api_route(path, file, methods=["GET"], include_in_schema=False)
