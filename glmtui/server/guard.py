"""Who may ask: the guard in front of every path, and the log of what was asked (never what was said).

A page from elsewhere must not reach the model through a person's browser, neither under its own name for this
machine (DNS rebinding: ``Host``) nor from its own place (CSRF: ``Origin``, a content type that no form has).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmtui.server.errors import ApiError
from glmtui.server.options import LOOPBACK_NAMES, ServerOptions, is_loopback
from glmtui.text.clean import one_line

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
KEYLESS = ("/health",)
"""Paths that need no key; so do those of the web page."""
TYPED = "/terminal/"
"""Begins the paths of what is typed in a tab: there are many a minute, and each is nothing to speak of."""
CLIENT = "glmtui.client"
"""Where a request's scope says whose it is."""
INVALID_HTTP = "invalid_http"
TOKENS = "glmtui.tokens"
"""Where it says, in the end, how many tokens prompt and answer had."""
Log = Callable[[str], None]
_NAMES = re.compile(r"[\w!#$%&'*+.^`|~-]{1,64}(?: ?, ?[\w!#$%&'*+.^`|~-]{1,64}){0,63}", re.ASCII)
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^\[\]:@]+))(?::\d*)?")


class Guard:
    """Lets requests through to `app`, or answers them itself.

    Args:
        app: what answers.
        options: names, keys, limits.
        is_page: whether a path is one of the web page's files.
        log: takes a line about every request.
    """

    def __init__(
        self, app: ASGIApp, options: ServerOptions, is_page: Callable[[str], bool], log: Log | None = None
    ) -> None:
        self._app, self._options, self._is_page, self._log = app, options, is_page, log
        self._names = LOOPBACK_NAMES | {options.host.lower()} | {name.lower() for name in options.names}
        self._origins = {origin.rstrip("/").lower() for origin in options.origins}
        self._keys = [key.encode() for key in options.keys]
        self._rates = Rates(options.limits.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        began, status = time.monotonic(), 0
        headers = Headers(scope=scope)
        origin = self._allowed_origin(headers)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                found = MutableHeaders(scope=message)
                for name, value in ALWAYS.items():
                    found.setdefault(name, value)
                found.setdefault("Cache-Control", "no-store")
                if origin:
                    found["Access-Control-Allow-Origin"] = origin
                    found["Cross-Origin-Resource-Policy"] = "cross-origin"
                    found.add_vary_header("Origin")
            await send(message)

        try:
            self._check(scope, headers, origin)
            app = preflight(headers) if scope["method"] == "OPTIONS" and origin else self._app
        except ApiError as error:
            app = refusal = error.response()
            if (
                error.code == INVALID_HTTP
            ):  # where the next request begins is as doubtful as where this one ends
                refusal.headers["Connection"] = "close"
        try:
            await app(scope, receive, answer)
        finally:
            if self._log and not (status == 204 and scope["path"].startswith(TYPED)):
                self._log(_line(scope, status, time.monotonic() - began))

    def _check(self, scope: Scope, headers: Headers, origin: str) -> None:
        """Raise `ApiError` if the request may not be answered."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_name(_host_name(hosts[0])):
            raise ApiError(403, "This server is not called by that name (Host).", code="host_not_allowed")
        if headers.get("origin") is not None and not origin and not _is_same(headers["origin"], hosts[0]):
            raise ApiError(403, "Pages from elsewhere may not use this server.", code="origin_not_allowed")
        if "content-length" in headers and "transfer-encoding" in headers:  # a proxy may read it otherwise
            raise ApiError(400, "The body's length is told in two ways.", code=INVALID_HTTP)
        navigates = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") == "cross-site" and not origin and not navigates:
            raise ApiError(403, "Pages from elsewhere may not use this server.", code="origin_not_allowed")
        if scope["method"] == "OPTIONS" and origin:
            return
        path = scope["path"]
        page = scope["method"] in ("GET", "HEAD") and self._is_page(path)
        number = self._key_number(headers)
        if self._keys and number is None and path not in KEYLESS and not page:
            self._rates.take(f"wrong {_address(scope)}")
            raise ApiError(
                401,
                "A valid API key is needed: Authorization: Bearer KEY.",
                code="invalid_api_key",
            )
        scope[CLIENT] = _address(scope) if number is None or len(self._keys) == 1 else f"key {number}"
        if not page and path not in KEYLESS and not path.startswith(TYPED):
            self._rates.take(scope[CLIENT])
        if scope["method"] == "POST" and _from_browser(headers) and not _is_json(headers):
            raise ApiError(415, "Content-Type must be application/json.", code="unsupported_media_type")

    def _is_name(self, name: str) -> bool:
        if name in self._names:
            return True
        if is_loopback(self._options.host):
            return False
        try:  # whoever has a page at an address, has the address: no name can be made to stand for it
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _allowed_origin(self, headers: Mapping[str, str]) -> str:
        origin = headers.get("origin", "")
        return origin if origin.lower() in self._origins else ""

    def _key_number(self, headers: Mapping[str, str]) -> int | None:
        """Return which key was given; all are compared, in a time that says nothing about them."""
        scheme, _space, given = headers.get("authorization", "").partition(" ")
        key = (given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode()
        digest = hashlib.sha256(key).digest()
        matches = [hmac.compare_digest(digest, hashlib.sha256(each).digest()) for each in self._keys]
        return matches.index(True) if any(matches) else None


class Rates:
    """So many requests a minute for each client; what was not used adds up to one minute's worth."""

    MOST = 4096
    """Clients that are remembered; the ones that came longest ago go first."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left: dict[str, tuple[float, float]] = {}  # by client: how many, and as of when

    def take(self, client: str) -> None:
        """Count a request of `client`. Raises `ApiError` (429) where that is too many."""
        now = time.monotonic()
        left, then = self._left.pop(client, (float(self._per_minute), now))
        left = min(left + (now - then) * self._per_minute / 60, self._per_minute)
        if len(self._left) >= self.MOST:
            del self._left[next(iter(self._left))]
        self._left[client] = (max(left - 1, 0), now)
        if left < 1:
            wait = max(1, round((1 - left) * 60 / self._per_minute))
            raise ApiError(
                429, f"Too many requests. Try again in {wait} s.", code="rate_limited", retry_after=wait
            )


def preflight(headers: Mapping[str, str]) -> Response:
    """Tell a browser that a page from an allowed place may ask, with the headers that it names.

    OpenAI's client for JavaScript sends several of its own, ``X-Stainless-…``.
    """
    asked = headers.get("access-control-request-headers", "")
    allowed = asked if _NAMES.fullmatch(asked) else "Authorization, Content-Type"
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": allowed,
            "Access-Control-Max-Age": "600",
        },
    )


def _host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets; empty if it is none."""
    found = _HOST.fullmatch(host.strip().lower())
    return (found["address"] or found["name"]) if found else ""


def _is_same(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from this server, whose Host is `host`; TLS may end in front of it."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme)
    if usual is None:
        return False
    return parts.netloc.lower().removesuffix(usual) == host.strip().lower().removesuffix(usual)


def _from_browser(headers: Mapping[str, str]) -> bool:
    return any(name in headers for name in ("origin", "sec-fetch-site", "sec-fetch-mode", "referer"))


def _is_json(headers: Mapping[str, str]) -> bool:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json"


def _address(scope: Scope) -> str:
    return str(scope["client"][0]) if scope.get("client") else "local"


def _line(scope: Scope, status: int, seconds: float) -> str:
    """Return what the log says of a request: no query, no header, nothing of its body."""
    prompt, answer = scope.get(TOKENS, (0, 0))
    tokens = f" {prompt}+{answer} tokens" if prompt else ""
    path = one_line(scope["path"])[:80]
    return f"{time.strftime('%H:%M:%S')} {scope['method']} {path} {status or 'gone'} {seconds:.2f} s{tokens}"
