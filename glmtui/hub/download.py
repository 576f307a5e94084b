"""Gets a model from the hub into the hub cache: resumed where it was left, verified, cancelled at any moment.

huggingface_hub lists the files, knows their addresses and holds the connections. Fetching is done here: since
its version 2 it throws a part away when it is cancelled, reports in steps of ten megabytes and cannot be
cancelled in between. The result is laid out as it would do it, for every program that uses the same cache.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from glmtui.errors import BadFileError, StorageError, UnavailableError
from glmtui.hub import cache as hub_cache
from glmtui.hub.client import HubFile, Listing, errors_for_people
from glmtui.protocol.cancellation import CancelToken
from glmtui.protocol.models import FileProgress
from glmtui.protocol.phrases import Phrase, _
from glmtui.text.quoting import reason_of
from glmtui.text.units import size

if TYPE_CHECKING:
    from httpx2 import Client

CONNECTIONS = 4
"""Files fetched at the same time."""
TRIES = 5
"""Without a single new byte between them, before giving up."""
PAUSE = 1.0
"""Seconds before the second try; doubled for each further one."""
TIMEOUT = 20.0
"""Seconds without a byte that count as a cut connection."""
REPORT = 0.1
"""Seconds between two reports, and the longest that cancelling takes."""
RESERVE = 200 << 20
"""Bytes that are left free on the disk."""
_CHUNK = 1 << 20

Report = Callable[[tuple[FileProgress, ...]], None]


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(slots=True)
class _Part:
    """One file on its way."""

    file: HubFile
    blob: Path
    pointer: Path
    """Its place in the snapshot."""
    done: int = 0
    error: BaseException | None = None

    @property
    def here(self) -> bool:
        """Whether the file is there and as long as it should be."""
        return any(
            path.is_file() and path.stat().st_size == self.file.size for path in (self.pointer, self.blob)
        )

    @property
    def part(self) -> Path:
        return self.blob.with_name(f"{self.blob.name}.incomplete")

    def progress(self) -> FileProgress:
        return FileProgress(self.file.name, self.done, self.file.size)


def remaining(listing: Listing) -> int:
    """Return how many bytes of the listing are still to be fetched."""
    return sum(part.file.size - part.done for part in _parts(listing))


def fetch(listing: Listing, report: Report | None = None, token: CancelToken | None = None) -> Path:
    """Fetch what is missing; return the finished snapshot's folder.

    Args:
        report: called about ten times a second with every file of the listing.
        token: checked as often; what has come until then is kept for the next time.

    Raises:
        OperationCancelled: `token` says so.
        UserError: no connection, no room, a file that came damaged (it is thrown away).
    """
    from filelock import FileLock, Timeout

    report, token = report or (lambda _files: None), token or CancelToken()
    home = hub_cache.repository(listing.hub_id)
    with no_room_for_people(home):
        (home / "blobs").mkdir(parents=True, exist_ok=True)
        locks = hub_cache.folder() / ".locks" / home.name
        locks.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(locks / "glmtui.lock", timeout=0):
            check_room(listing)
            _fetch_blobs(listing, report, token)
            return _lay_out(listing)
    except Timeout:
        message = _("{hub_id} is being downloaded by another program.")
        raise UnavailableError(message.format(hub_id=listing.hub_id)) from None


def check_room(listing: Listing) -> None:
    """Raise UserError if the disk has too little room for what is still to be fetched."""
    missing, free = remaining(listing), hub_cache.free_bytes()
    if missing and missing + RESERVE > free:
        raise StorageError(
            _(
                "{hub_id} needs {wanted} more in {folder}, and {free} are free. Free some, or set "
                "HF_HUB_CACHE to a folder on another disk."
            ).format(hub_id=listing.hub_id, wanted=size(missing), free=size(free), folder=hub_cache.folder())
        )


def _parts(listing: Listing) -> list[_Part]:
    """Every file of the listing with how much of it is here."""
    home = hub_cache.repository(listing.hub_id)
    parts = []
    for file in listing.files:
        part = _Part(file, home / "blobs" / file.etag, home / "snapshots" / listing.commit / file.name)
        if part.here:
            part.done = file.size
        elif part.part.exists() and part.part.stat().st_size <= file.size:
            part.done = part.part.stat().st_size
        parts.append(part)
    return parts


def _fetch_blobs(listing: Listing, report: Report, token: CancelToken) -> None:
    """Fetch the missing blobs on a few threads, while this one reports and looks at `token`.

    The threads end soon after: at the next bytes that come, or when none do.
    """
    from huggingface_hub import get_session

    parts = _parts(listing)
    queued: queue.SimpleQueue[_Part] = queue.SimpleQueue()
    finished: queue.SimpleQueue[_Part] = queue.SimpleQueue()
    missing = [part for part in parts if not part.here]
    for part in sorted(missing, key=lambda part: part.file.size):
        queued.put(part)  # small ones first: a mistake in them shows at once
    session, given_up = get_session(), CancelToken()

    def work() -> None:
        while not given_up.cancelled:
            try:
                part = queued.get_nowait()
            except queue.Empty:
                return
            try:
                _fetch_file(session, listing, part, given_up)
            except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
                part.error = error
            finished.put(part)

    for number in range(min(CONNECTIONS, len(missing))):
        threading.Thread(target=work, name=f"glmtui-download-{number}", daemon=True).start()
    try:
        left = len(missing)
        while left:
            report(tuple(part.progress() for part in parts))
            token.check()
            try:
                part = finished.get(timeout=REPORT)
            except queue.Empty:
                continue
            if part.error is not None:
                with (
                    errors_for_people(listing.hub_id, listing.revision, listing.endpoint),
                    no_room_for_people(part.blob, part.file.size - part.done),
                ):
                    raise part.error
            left -= 1
        report(tuple(part.progress() for part in parts))
    finally:
        given_up.cancel()


def _fetch_file(session: Client, listing: Listing, part: _Part, token: CancelToken) -> None:
    """Append to the part until it is complete, connecting again where the line is cut; verify it; keep it."""
    import httpx2

    tries, most = 0, part.done
    digest = _resume(part, token)
    while part.done < part.file.size:
        error: Exception | None = None
        try:
            digest = _append(session, listing, part, digest, token)
        except httpx2.HTTPError as cut:
            error = cut
        if part.done >= part.file.size:
            break
        # However an answer ended: one that brought nothing new counts.
        tries, most = (0, part.done) if part.done > most else (tries + 1, most)
        if tries >= TRIES or (error is not None and not _passes(error)):
            raise error or UnavailableError(_ends_early(listing, part))
        _wait(PAUSE * 2 ** max(tries - 1, 0), token)
    if part.file.size == 0:
        part.part.touch()
    if digest.hexdigest() != part.file.etag:
        part.part.unlink()
        part.done = 0
        raise BadFileError(
            _(
                "{file} of {hub_id} came damaged: its checksum is not the one that the hub names. It was "
                "deleted; download again, and only this file is fetched."
            ).format(file=part.file.name, hub_id=listing.hub_id)
        )
    part.part.replace(part.blob)


def _ends_early(listing: Listing, part: _Part) -> Phrase:
    message = _(
        "{server}, or a proxy on the way, ends {file} after {done} of {size}. What has come is kept; try "
        "again later, or without the proxy."
    )
    return message.format(
        server=listing.endpoint, file=part.file.name, done=size(part.done), size=size(part.file.size)
    )


def _append(session: Client, listing: Listing, part: _Part, digest: _Hash, token: CancelToken) -> _Hash:
    """Ask for the rest of the file and write it as it comes, up to its end or a cut."""
    from huggingface_hub import hf_hub_url, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # exported lazily

    url = hf_hub_url(listing.hub_id, part.file.name, revision=listing.commit, endpoint=listing.endpoint)
    headers = {**build_hf_headers(library_name="glmtui"), "Accept-Encoding": "identity"}
    if part.done:
        headers["Range"] = f"bytes={part.done}-"
    with session.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if part.done and response.status_code != 206:  # a server without ranges begins anew
            digest, part.done = _new_digest(part.file), 0
        with part.part.open("r+b" if part.part.exists() else "wb") as stream:
            stream.truncate(part.done)
            stream.seek(part.done)
            for chunk in response.iter_bytes():
                token.check()
                stream.write(chunk)
                stream.flush()  # what has come stays, whatever happens to the program
                digest.update(chunk)
                part.done += len(chunk)
                if part.done > part.file.size:
                    break  # not the file that was listed: the checksum will say so
    return digest


def _resume(part: _Part, token: CancelToken) -> _Hash:
    """Return the checksum of what is here of the file."""
    digest = _new_digest(part.file)
    if part.done:
        with part.part.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                token.check()
                digest.update(chunk)
    return digest


def _new_digest(file: HubFile) -> _Hash:
    if len(file.etag) == 64:
        return hashlib.sha256()
    digest = hashlib.sha1(usedforsecurity=False)  # git's name of a blob
    digest.update(f"blob {file.size}\0".encode())
    return digest


def _passes(error: Any) -> bool:
    """Whether the error may be gone at the next try."""
    response = getattr(error, "response", None)
    return response is None or response.status_code in (408, 429, 500, 502, 503, 504)


def _wait(seconds: float, token: CancelToken) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        token.check()
        time.sleep(min(REPORT, seconds))


def _lay_out(listing: Listing) -> Path:
    """Make the snapshot of the finished blobs, ``config.json`` last: with it, it counts as complete."""
    home = hub_cache.repository(listing.hub_id)
    snapshot = home / "snapshots" / listing.commit
    with no_room_for_people(snapshot):
        snapshot.mkdir(parents=True, exist_ok=True)
        for part in sorted(_parts(listing), key=lambda part: part.file.name == "config.json"):
            if part.blob.is_file() and not part.pointer.is_symlink():
                part.pointer.unlink(missing_ok=True)  # a file that was moved here and is damaged
            if not part.pointer.is_file():
                _link(part.blob, part.pointer)
        if listing.revision != listing.commit:
            reference = home / "refs" / listing.revision
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(listing.commit, encoding="ascii")
    return snapshot


def _link(blob: Path, pointer: Path) -> None:
    """Let `pointer` be `blob`, by moving it where links are not allowed (as on Windows without a setting)."""
    pointer.unlink(missing_ok=True)  # a link to a blob that is gone
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except (OSError, NotImplementedError):
        blob.replace(pointer)


def check(hub_id: str, report: Report | None = None) -> tuple[str, ...]:
    """Compare what the cache holds of a model with the checksums that its blobs are named by; no network.

    What is damaged is thrown away, so that the next download fetches it again; the names are returned.
    """
    report = report or (lambda _files: None)
    blobs = [blob for blob in hub_cache.blobs(hub_id) if len(blob.name) in (40, 64)]
    sizes = {blob: blob.stat().st_size for blob in blobs}
    names = {os.path.realpath(link): link.name for link in hub_cache.repository(hub_id).glob("snapshots/*/*")}
    damaged = []
    done: list[FileProgress] = []
    for blob in blobs:
        name = names.get(os.path.realpath(blob), blob.name)
        digest, read = _new_digest(HubFile(name, sizes[blob], blob.name)), 0
        with blob.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                read += len(chunk)
                report((*done, FileProgress(name, read, sizes[blob])))
        done.append(FileProgress(name, read, sizes[blob]))
        if digest.hexdigest() != blob.name:
            blob.unlink()
            damaged.append(name)
    return tuple(damaged)


@contextmanager
def no_room_for_people(place: Path, missing: int = 0) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a `UserError` that names it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                _(
                    "The disk is full: {folder} needs {missing} more for this file. What has come is kept; "
                    "free some room and download again, or set HF_HUB_CACHE to a folder on another disk."
                ).format(folder=place.parent, missing=size(missing))
            ) from error
        if error.errno is not None and isinstance(error, PermissionError):
            raise StorageError(
                _("{path} cannot be written: {error}").format(path=place, error=reason_of(error))
            ) from error
        raise
