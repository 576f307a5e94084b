"""Fetches pages that somebody else named: within bounds, and never from inside the network.

An address is resolved once, what it stands for is checked, and the connection goes to exactly that: a name
that means another machine a moment later gains nothing. That holds for each redirect too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeAlias
from urllib.request import getproxies, proxy_bypass

from glmtui.connections import why_not, without_login
from glmtui.errors import BadFileError, BadValueError, UnavailableError, UserError
from glmtui.protocol.phrases import _
from glmtui.retrieval.readers.html import decode_page
from glmtui.retrieval.update import Fetched
from glmtui.version import __version__

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 2_000_000
SECONDS = 10.0
MOST_REDIRECTS = 5
USER_AGENT = f"glmtui/{__version__}"
_TYPES = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/pdf": "pdf",
}
"""What is read, and the suffix of such files."""
_MORE_PICTURES = (
    "image/jpg",
    "image/pjpeg",
    "image/x-png",
    "image/x-ms-bmp",
    "application/octet-stream",
    "binary/octet-stream",
)
"""What servers call pictures, too."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
"""IPv4 as it stood in IPv6 once (RFC 4291, 2.5.5.1)."""
Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Allowed: TypeAlias = Callable[[Address], bool]


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet and not to this machine or its network."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and (address in _NAT64 or address in _COMPATIBLE):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def fetch_document(url: str) -> Fetched:
    """Fetch a page for a collection, from a thread without an event loop. Raises as `fetch`."""
    return asyncio.run(fetch(url))


async def fetch(url: str, allowed: Allowed = is_public) -> Fetched:
    """Return what stands at `url`, text in UTF-8 with its mark.

    Raises:
        UserError: it is not allowed, not there, too slow, too big, or of a type that is not read.
    """
    data, kind, charset = await _within_bounds(url, allowed, _TYPES, MOST_BYTES, cut=True)
    name = f"page.{_TYPES[kind]}"
    if kind == "application/pdf":
        return Fetched(data, name)
    notes = []
    if len(data) > MOST_BYTES:
        notes.append(_("It was read up to {most} MB.").format(most=MOST_BYTES // 10**6))
    text = decode_page(data[:MOST_BYTES], charset)
    return Fetched(text.encode("utf-8-sig", "replace"), name, tuple(notes))


async def fetch_picture(url: str, allowed: Allowed = is_public) -> bytes:
    """Return the file of a picture at `url`, whatever its server calls it. Raises as `fetch`."""
    from glmtui import images

    kinds = dict.fromkeys((*images.FORMATS.values(), *_MORE_PICTURES), "")
    return (await _within_bounds(url, allowed, kinds, images.MOST_BYTES))[0]


async def _within_bounds(
    url: str, allowed: Allowed, kinds: Mapping[str, str], most: int, *, cut: bool = False
) -> tuple[bytes, str, str]:
    """Return the bytes at `url`, their type, which is one of `kinds`, and the encoding of a text.

    Of what was cut there is one byte more than `most`.

    Args:
        url: an address of the web.
        allowed: says which machines may be asked.
        kinds: the types that are read.
        most: bytes that are read.
        cut: of a longer text the beginning is enough.
    """
    import httpx2

    shown = without_login(url)
    try:
        return await asyncio.wait_for(_fetch(url, allowed, kinds, most, cut), SECONDS)
    except (TimeoutError, asyncio.TimeoutError, httpx2.TimeoutException) as error:
        raise UnavailableError(
            _("{url} did not answer within {seconds} seconds.").format(url=shown, seconds=int(SECONDS))
        ) from error
    except httpx2.TooManyRedirects as error:
        raise UnavailableError(_("{url} leads in a circle.").format(url=shown)) from error
    except httpx2.InvalidURL as error:
        raise BadValueError(_("{url} is no address.").format(url=shown)) from error
    except (httpx2.HTTPError, OSError, ssl.SSLError) as error:
        raise UnavailableError(
            _("{url} cannot be reached: {error}").format(url=shown, error=why_not(error))
        ) from error


async def _fetch(
    url: str, allowed: Allowed, kinds: Mapping[str, str], most: int, cut: bool
) -> tuple[bytes, str, str]:
    import httpx2

    shown = without_login(url)
    headers = {
        "User-Agent": USER_AGENT,
        "Accept": ", ".join(kinds),
        "Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8",
    }
    client = httpx2.AsyncClient(
        transport=_guarded(allowed), trust_env=False, follow_redirects=True, max_redirects=MOST_REDIRECTS,
        headers=headers, timeout=SECONDS,
    )  # fmt: skip
    async with client, client.stream("GET", url) as response:
        if response.status_code != 200:
            raise UnavailableError(
                _("{url} answered with status {status}.").format(url=shown, status=response.status_code)
            )
        kind = response.headers.get("content-type", next(iter(kinds))).partition(";")[0].strip().lower()
        if kind not in kinds:
            raise BadFileError(
                _("{url} is of the type {kind}, which is not read.").format(url=shown, kind=kind)
            )
        data = bytearray()
        async for piece in response.aiter_bytes():
            data += piece
            if len(data) > most:
                break
        if len(data) > most and not (cut and kind != "application/pdf"):  # a part of it cannot be read
            raise BadFileError(
                _("{url} has more than {most} MB, which is too much.").format(url=shown, most=most // 10**6)
            )
        return bytes(data[: most + 1]), kind, response.charset_encoding or ""


def _guarded(allowed: Allowed) -> httpx2.AsyncBaseTransport:
    """Return a transport that connects only to what is `allowed`."""
    return _transport_class()(allowed)


@cache
def _transport_class() -> Callable[[Allowed], httpx2.AsyncBaseTransport]:
    """Make the class when it is needed: importing httpx2 takes a while."""
    import httpx2

    class Guarded(httpx2.AsyncBaseTransport):
        """Resolves and checks each request's host, then connects to the address that was checked."""

        def __init__(self, allowed: Allowed) -> None:
            self._allowed = allowed
            self._proxies = {
                scheme: httpx2.AsyncHTTPTransport(proxy=proxy)
                for scheme, proxy in getproxies().items()
                if scheme in ("http", "https") and proxy.startswith(("http://", "https://"))
            }
            self._direct = httpx2.AsyncHTTPTransport()

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            url = request.url
            if url.scheme not in ("http", "https") or not url.host:
                raise BadValueError(_("{url} is no address of the web.").format(url=without_login(str(url))))
            proxy = self._proxies.get(url.scheme)
            if proxy is not None and not proxy_bypass(url.host):  # it resolves the name itself, again
                await self._checked(url, must_resolve=False)
                return await proxy.handle_async_request(request)
            address = await self._checked(url, must_resolve=True)
            pinned = httpx2.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,  # with the name in `Host`
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},
            )
            return await self._direct.handle_async_request(pinned)

        async def _checked(self, url: httpx2.URL, *, must_resolve: bool) -> str:
            try:
                addresses = await resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
            except OSError as error:
                if not must_resolve:
                    return url.host
                raise UnavailableError(_("There is no machine {host}.").format(host=url.host)) from error
            for address in addresses:
                if not self._allowed(ipaddress.ip_address(address)):
                    raise BadValueError(
                        _(
                            "{url} lies inside your network ({address}): nothing is fetched from there."
                        ).format(url=without_login(str(url)), address=address)
                    )
            return addresses[0]

        async def aclose(self) -> None:
            for transport in (self._direct, *self._proxies.values()):
                await transport.aclose()

    return Guarded


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a machine."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return [re.sub(r"%.*", "", str(info[4][0])) for info in found]


__all__ = ["Fetched", "UserError", "fetch", "fetch_document", "fetch_picture", "is_public"]
