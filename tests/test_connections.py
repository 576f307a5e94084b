"""Why there is no connection, in words: whatever stands behind an error, the first that tells counts."""

from __future__ import annotations

import socket
import ssl
from itertools import pairwise

import httpx2
import pytest

from glmtui.connections import why_not, without_login


def behind(*errors: BaseException) -> BaseException:
    """Return the first error, raised from the next, and so on."""
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


def plain_http() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (behind(httpx2.ConnectError("x"), socket.gaierror(-2, "x")), "name"),
        (behind(httpx2.ConnectError("x"), ConnectionRefusedError(111, "x")), "refuses"),
        (behind(httpx2.ConnectError("x"), plain_http()), "http, not https"),
        (behind(httpx2.ConnectError("x"), ssl.SSLCertVerificationError("x")), "certificate"),
        (
            httpx2.RemoteProtocolError("peer closed connection without sending complete message body"),
            "hung up",
        ),
        (httpx2.RemoteProtocolError("Server disconnected without sending a response."), "hung up"),
        (behind(httpx2.ReadError("x"), ConnectionResetError(104, "x")), "hung up"),
        (httpx2.ReadTimeout("x"), "in time"),
        (httpx2.RemoteProtocolError("illegal header line"), "illegal header line"),
        (OSError(5, "[Errno 5] broken"), "broken"),
    ],
)
def test_it_is_said_in_words(error: BaseException, word: str) -> None:
    assert word in str(why_not(error))


def test_an_address_is_shown_without_who_logs_in() -> None:
    assert without_login("https://me:secret@example.org/a@b") == "https://example.org/a@b"
