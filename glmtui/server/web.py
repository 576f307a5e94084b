"""The web page: files of this package alone, under a policy that lets a browser ask nobody else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).with_name("page")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_RULES = (
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
)  # fmt: skip
POLICY = "; ".join((*_RULES, "trusted-types dompurify"))
TERMINAL_POLICY = "; ".join((*_RULES, "trusted-types 'none'")).replace(
    "style-src", "style-src 'unsafe-inline'"
)
"""Of the page with a terminal in it, which makes its own rules of style; nobody's markup comes there."""


class PageFile(NamedTuple):
    """A file as it is sent."""

    data: bytes
    media_type: str
    tag: str


@cache
def files() -> Mapping[str, PageFile]:
    """Return the page's files by their path in the address; there are no others."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in TYPES:
            data = path.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            found[f"/page/{path.relative_to(FOLDER).as_posix()}"] = PageFile(data, TYPES[path.suffix], tag)
    found["/"] = found.pop("/page/index.html")
    found["/terminal"] = found.pop("/page/terminal.html")
    return found


def is_page(path: str) -> bool:
    """Whether `path` is one of the page's files, which need no key: they hold nothing but the program."""
    return path in files() or path == "/favicon.ico"


async def show(request: Request) -> Response:
    """Send a file, or say that the browser has it already."""
    path = "/page/icon.svg" if request.url.path == "/favicon.ico" else request.url.path
    file = files().get(path)
    if file is None:
        raise HTTPException(404)
    policy = TERMINAL_POLICY if path == "/terminal" else POLICY
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Content-Security-Policy": policy}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.data, headers=headers, media_type=file.media_type)


ROUTES = [Route(path, show, methods=["GET"]) for path in ("/", "/favicon.ico", "/page/{name:path}")]
