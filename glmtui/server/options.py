"""How a server listens, whom it answers, and how much of everything it takes."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path

from glmtui.errors import BadFileError, BadValueError, UsageError
from glmtui.protocol.phrases import _
from glmtui.text.quoting import reason_of

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, or all together, may take."""

    slots: int = 4
    """Answers that are given to the engine at once."""
    queue: int = 64
    """Requests that may wait for a slot; what comes then is told to come again later (429)."""
    requests_per_minute: int = 600
    """Of one client."""
    body: int = 4 << 20
    """Bytes of a request's body."""
    picture_body: int = 24 << 20
    """The same where the model sees pictures: one of 17 MB, in base64."""
    request_seconds: float = 1800.0
    """From the request to the end of its answer, waiting included."""
    body_seconds: float = 30.0
    """For the body to come in."""
    head_seconds: float = 20.0
    """For a request's head to come in."""
    write_seconds: float = 30.0
    """For a client to take what was written to it."""
    connections: int = 512


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where and for whom."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any that is free."""
    keys: tuple[str, ...] = ()
    """Any of these is demanded; none: everybody who reaches it is answered."""
    names: frozenset[str] = frozenset()
    """Names by which browsers may call this server, besides the usual ones of this machine."""
    origins: frozenset[str] = frozenset()
    """Web pages from elsewhere that may use it, as ``https://example.org``."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.keys and not is_loopback(self.host):
            phrase = _("Other machines can reach {host}: give --api-key-file, with a key in the file.")
            raise UsageError(phrase.format(host=self.host))
        for name in self.names:
            if not re.fullmatch(r"[^\s/:@]+|[0-9a-fA-F:.]+", name):
                phrase = _("{name} is no name of a machine. Write it as in host.docker.internal")
                raise UsageError(phrase.format(name=name))
        for origin in self.origins:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/*@]+/?", origin, re.IGNORECASE):
                phrase = _("{url} is no address of a page's server. Write it as in https://example.org")
                raise UsageError(phrase.format(url=origin))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may come to stand for anything


MOST_BYTES = 1 << 20
"""Of a file of keys that are read."""


def is_readable_by_others(path: Path) -> bool:
    """Whether other users of this machine can read a file of keys."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return os.name == "posix" and stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)


def read_keys(path: Path) -> tuple[str, ...]:
    """Read the keys in a file, one a line; blank lines and those with ``#`` in front are none.

    Raises:
        UserError: it cannot be read, or has no key that a header can carry.
    """
    try:
        with path.open("rb") as file:  # also what a shell gives for ``<(command)``
            lines = file.read(MOST_BYTES).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise BadFileError(
            _("{path} cannot be read: {error}").format(path=path, error=reason_of(error))
        ) from error
    except UnicodeDecodeError as error:
        raise BadFileError(_("{path} is not a text file.").format(path=path)) from error
    keys = tuple(key for line in lines if (key := line.strip()) and not key.startswith("#"))
    if not keys:
        raise BadValueError(_("There is no key in {path}. Write one in its first line.").format(path=path))
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        phrase = _("A key in {path} has other characters than letters, digits and signs.")
        raise BadValueError(phrase.format(path=path))
    return keys


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        UserError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError, UnicodeError) as error:
        phrase = _("{host}, port {port} cannot be listened on: {reason}")
        raise BadValueError(phrase.format(host=host, port=port, reason=reason_of(error))) from error


def url(host: str, port: int) -> str:
    """Return the address of the page, by which a browser on this machine reaches it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
