"""Machines that are asked: how they are reached and shown, and why there is no connection, in words."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from glmtui.errors import UnavailableError
from glmtui.protocol.phrases import Phrase, _, verbatim
from glmtui.text.quoting import quoted, reason_of

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine: no proxy stands before it."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""What OpenSSL says of an answer that is not encrypted."""
_LOGIN = re.compile(r"^(\w+://)[^/?#\s]*@")


def without_login(url: str) -> str:
    """Return an address as it may be shown and kept: without the user and the password in it."""
    return _LOGIN.sub(r"\1", url)


def why_not(error: BaseException) -> Phrase:
    """Say for people why there is no connection, by the first of the errors behind `error` that tells."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return _("its name is not known here; is there a network?")
        if isinstance(cause, ConnectionRefusedError):
            return _("it refuses to talk")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _("its certificate is not trusted here")
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            return _("it speaks http, not https")
        if isinstance(cause, ConnectionResetError | BrokenPipeError) or _hung_up(cause):
            return _("it hung up")
        if isinstance(cause, TimeoutError) or type(cause).__name__.endswith("Timeout"):
            return _("no answer came in time")
        cause = cause.__cause__ or cause.__context__
    return verbatim(re.sub(r"^\[Errno -?\d+\] ", "", str(reason_of(error))))


def is_outside(url: str) -> bool:
    """Return whether `url` is of another machine, so that the environment has a say in how it is reached.

    Raises:
        UnavailableError: it is, and a variable of the environment cannot be so; it is named.
    """
    if urlsplit(url).hostname in LOOPBACK:
        return False
    check_variables(os.environ)
    return True


def check_variables(variables: Mapping[str, str]) -> None:
    """Look at the environment variables by which connections are made, before a library stumbles over them.

    Libraries have no error in common for what these may hold.

    Raises:
        UnavailableError: one cannot be so; it is named.
    """
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (value := variables.get(name)) and not os.path.exists(value):
            message = _("{variable} names {path}, and there is no such file. Set it right, or unset it.")
            raise UnavailableError(message.format(variable=name, path=quoted(value)))
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"):
        if value := variables.get(name):
            _check_proxy(name, value)


def check_address(variable: str, value: str, schemes: tuple[str, ...] = ("http", "https")) -> None:
    """Raise `UnavailableError` where no connection can be tried to the address that `variable` holds."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
        right = value.isprintable() and parts.scheme in schemes and port != 0 and bool(host.encode("idna"))
    except ValueError:  # the port, the brackets, a part of the name that is too long
        right = False
    if not right:
        message = _("{variable} is {value}, which is no address of a server. Set it right, or unset it.")
        raise UnavailableError(message.format(variable=variable, value=quoted(without_login(value))))


def _check_proxy(variable: str, value: str) -> None:
    schemes = ("http", "https", "socks5", "socks5h")
    scheme, separator, _rest = value.partition("://")
    scheme = scheme.lower() if separator else "http"
    if scheme in ("socks5", "socks5h") and importlib.util.find_spec("socksio") is None:
        message = _(
            "{variable} names a SOCKS proxy, which needs the package socksio: pip install socksio. Or set it "
            "to the proxy's HTTP address (http://…), which most of them have too."
        )
    elif scheme not in schemes:
        message = _(
            "{variable} is {value}, which is no address of a proxy that can be used: it begins with http://, "
            "https:// or socks5://."
        )
    else:
        return check_address(variable, value if separator else f"http://{value}", schemes)
    raise UnavailableError(message.format(variable=variable, value=quoted(without_login(value))))


def _hung_up(error: BaseException) -> bool:
    """Whether it is httpx2's word for an answer that broke off, or never began."""
    return type(error).__name__ == "RemoteProtocolError" and "connect" in str(error)
