"""How machines are reached: what the environment says of it is checked before a library stumbles over it."""

from __future__ import annotations

import pytest

from glmtui.connections import check_variables, is_outside
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
def test_a_proxy_that_can_be(value: str) -> None:
    check_variables({"HTTP_PROXY": value})
