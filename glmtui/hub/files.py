"""Files that other people made: only regular ones are opened, and no more of them is read than they may have.

A model folder may hold a link to ``/dev/zero``, a pipe that nobody writes to, or a gigabyte of brackets.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from glmtui import paths, regular_files
from glmtui.errors import BadFileError
from glmtui.protocol.phrases import _
from glmtui.text.quoting import reason_of

JSON_BYTES = 16 << 20
"""The longest JSON file; the index of the largest published GLM has 5 MB."""
TEXT_BYTES = 4 << 20
"""The longest text that is only searched for a word: a licence, a module."""


def open_regular(file: Path) -> BinaryIO:
    """Open `file` for reading, if it is a regular file or a link to one.

    Raises:
        FileNotFoundError: there is no such file.
        BadFileError: it is something else, or cannot be opened.
    """
    with os_errors_for_people(file):
        return regular_files.open_regular(file, sys.maxsize)


def check_regular(file: Path, limit: int = sys.maxsize) -> os.stat_result:
    """Return the status of `file`; raises as `read` does."""
    with os_errors_for_people(file):
        status = file.stat()
        regular_files.check_regular(status, limit)
    return status


def read(file: Path, limit: int) -> bytes:
    """Return the content of `file`.

    Raises:
        FileNotFoundError: there is no such file.
        BadFileError: it is no regular file, has more than `limit` bytes, or cannot be read.
    """
    with os_errors_for_people(file):
        return regular_files.read_regular(file, limit)


def read_json(file: Path) -> Any:
    """Return what a JSON file holds, or None where there is no such file.

    Raises:
        BadFileError: it cannot be read as JSON.
    """
    try:
        return parse_json(read(file, JSON_BYTES))
    except FileNotFoundError:
        return None
    except ValueError as error:
        message = _("{path} cannot be read: {error}. Download it again.")
        raise BadFileError(message.format(path=file, error=reason_of(error))) from error


def read_json_object(file: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one where there is no such file.

    Raises:
        BadFileError: it cannot be read as JSON, or is no object.
    """
    content = read_json(file)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadFileError(_("{path} is not a JSON object").format(path=file))
    return content


def parse_json(content: bytes) -> Any:
    """Return what JSON in UTF-8 says, with or without a byte order mark.

    Raises:
        ValueError: it is none, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:  # Python takes no number of more than 4,300 digits
        raise ValueError("it has a number of thousands of digits") from None


def to_json(values: Mapping[str, Any]) -> bytes:
    """Return `values` as JSON in UTF-8; lone surrogates, which that has no bytes for, as escapes."""
    return json.dumps(values, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")


@contextmanager
def os_errors_for_people(path: Path) -> Iterator[None]:
    """Turn what the system says against a file into a `BadFileError`; only that there is none stays."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(*error.args) from error
    except OSError as error:
        message = _("{path} cannot be read: {error}")
        raise BadFileError(message.format(path=path, error=regular_files.reason(error))) from error


@contextmanager
def utf8_name(path: Path) -> Iterator[Path]:
    """Give a name of `path` that is UTF-8, for libraries that take no other: a link for as long as needed.

    Names are bytes on Linux, and those of an old archive may be in GBK.
    """
    if paths.is_utf8(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="glmtui-") as folder:
        link = Path(folder) / "link"
        link.symlink_to(path.absolute(), target_is_directory=path.is_dir())
        yield link
