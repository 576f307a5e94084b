"""What messages say of errors: the system's words in the person's language, a library's in one short line."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from glmtui import i18n
from glmtui.text.quoting import reason_of

NUMBERS = (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EISDIR, errno.EADDRINUSE)


@pytest.mark.skipif(sys.platform != "linux", reason="the words are Linux's")
@pytest.mark.parametrize("number", NUMBERS)
def test_the_system_is_quoted_in_every_language(number: int) -> None:
    said = reason_of(OSError(number, os.strerror(number), "/some/file"))
    assert str(said) == os.strerror(number)
    i18n.use("zh_CN")
    try:
        assert i18n.tell(said).isascii() is False
    finally:
        i18n.use("en")


def test_other_errors_are_one_line() -> None:
    assert str(reason_of(ValueError("\n bad \x1b[2Jthing.\nat line 4"))) == "bad thing"
    assert str(reason_of(ValueError())) == "ValueError"
