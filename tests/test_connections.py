"""Connections: what the environment says of them is checked before a library stumbles over it, and why there
is none is said in words: whatever stands behind an error, the first that tells counts."""

from __future__ import annotations

import socket
import ssl
from itertools import pairwise

import httpx2
import pytest

from glmtui.connections import check_variables, is_outside, why_not, without_login
from glmtui.errors import UnavailableError

WRONG = (
    "http://h:port",
    "http://h:99999",
    "http://[::1",
    "http://",
    f"http://{'a' * 80}.com",
    "x\x1b[2Jy",
    "ftp://x",
)


@pytest.mark.parametrize("value", WRONG)
def test_a_proxy_that_cannot_be_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(UnavailableError, match="https_proxy") as refused:
        is_outside("https://example.org/v1")
    assert "\x1b" not in str(refused.value)
    assert not is_outside("http://127.0.0.1:8000/v1")  # there it has no say


def test_a_password_is_not_shown() -> None:
    with pytest.raises(UnavailableError) as refused:
        check_variables({"ALL_PROXY": "socks4://me:secret@h"})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "value", ["http://me:secret@h:8080", "h:8080", "http://[::1]:1", "http://名.x", "HTTP://H/"]
)
def test_a_proxy_that_can_be(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    assert is_outside("https://example.org/v1")


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
        (OSError("broken"), "broken"),
    ],
)
def test_it_is_said_in_words(error: BaseException, word: str) -> None:
    assert word in str(why_not(error))


def test_an_address_is_shown_without_who_logs_in() -> None:
    assert without_login("https://me:secret@example.org/a@b") == "https://example.org/a@b"
