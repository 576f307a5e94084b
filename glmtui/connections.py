"""Machines that are asked: how their addresses are shown, and why there is no connection, in words."""

from __future__ import annotations

import re
import socket
import ssl

from glmtui.protocol.phrases import Phrase, _, verbatim
from glmtui.text.quoting import reason_of

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
    return verbatim(re.sub(r"^\[Errno -?\d+\] ", "", reason_of(error)))


def _hung_up(error: BaseException) -> bool:
    """Whether it is httpx2's word for an answer that broke off, or never began."""
    return type(error).__name__ == "RemoteProtocolError" and "connect" in str(error)
