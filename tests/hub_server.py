"""A server on this machine that speaks the Hugging Face hub's protocol, with the faults a test asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".bin", ".safetensors", ".model")
"""Kept in LFS: served from another address, named by their SHA-256."""


class HubServer:
    """Serves one repository, ``zai-org/NAME``."""

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.hub_id = f"zai-org/{name}"
        self.files = dict(files)
        self.revisions = {"main": COMMIT, COMMIT: COMMIT, "v1.0": COMMIT}
        self.requests: list[str] = []
        """``METHOD path`` of each, with the range asked for."""
        self.authorisations: set[str | None] = set()
        self.sent: Counter[str] = Counter()
        """Bytes that went out, by file."""
        # faults
        self.cuts: dict[str, list[int]] = {}
        """After how many bytes the connection is cut, for the next answers of each file."""
        self.corrupt: set[str] = set()
        """Files that come with one byte changed."""
        self.status: int | None = None
        """Answer everything so, with `error_code`."""
        self.error_code = ""
        self.busy: list[int] = []
        """Statuses of the next answers for files."""
        self.early: int | None = None
        """Answers for files end after so many bytes of the file, as if that were all."""
        self.page: bytes | None = None
        """What everything is answered with, as by the login page of a network."""
        self.ranges = True
        self.hold_after: int | None = None
        """Files stop coming after so many bytes, until `release` is set."""
        self.held = threading.Event()
        self.release = threading.Event()

    @classmethod
    def of_folder(cls, name: str, folder: Path) -> HubServer:
        """Serve the files of a folder."""
        return cls(name, {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve on the loopback; give the address."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            self.release.set()
            server.shutdown()
            server.server_close()

    def etag(self, name: str) -> str:
        """Name a file's content as the hub does."""
        content = self.files[name]
        if name.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (self is the request below)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                hub.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
                hub.authorisations.add(self.headers.get("Authorization"))
                path = unquote(urlsplit(self.path).path).strip("/")
                if hub.page is not None:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html")
                    self.send_header("Content-Length", str(len(hub.page)))
                    self.end_headers()
                    self.wfile.write(hub.page)
                elif hub.status is not None:
                    self.refuse(hub.status, hub.error_code)
                elif path.startswith("cdn/"):
                    self.send_content(path.removeprefix("cdn/"))
                elif path.startswith(f"api/models/{hub.hub_id}"):
                    self.describe(path.removeprefix(f"api/models/{hub.hub_id}").strip("/"))
                elif path.startswith(f"{hub.hub_id}/resolve/"):
                    revision, _slash, name = path.removeprefix(f"{hub.hub_id}/resolve/").partition("/")
                    self.resolve(revision, name)
                else:
                    self.refuse(404, "RepoNotFound")

            def describe(self, rest: str) -> None:
                kind, _slash, revision = rest.partition("/")
                commit = hub.revisions.get(revision or "main")
                if commit is None:
                    self.refuse(404, "RevisionNotFound")
                elif kind == "tree":
                    self.send_json([self.entry(name) for name in sorted(hub.files)])
                else:
                    self.send_json({"id": hub.hub_id, "sha": commit, "siblings": []})

            def entry(self, name: str) -> dict[str, object]:
                size = len(hub.files[name])
                result: dict[str, object] = {
                    "type": "file",
                    "path": name,
                    "size": size,
                    "oid": hub.etag(name),
                }
                if name.endswith(LARGE):
                    result["oid"] = "f" * 40
                    result["lfs"] = {"oid": hub.etag(name), "size": size, "pointerSize": 134}
                return result

            def resolve(self, revision: str, name: str) -> None:
                if hub.revisions.get(revision) is None:
                    self.refuse(404, "RevisionNotFound")
                elif name not in hub.files:
                    self.refuse(404, "EntryNotFound")
                elif name.endswith(LARGE):
                    self.send_response(302)
                    self.send_header("Location", f"/cdn/{name}")
                    self.send_header("X-Linked-Size", str(len(hub.files[name])))
                    self.send_header("X-Linked-Etag", f'"{hub.etag(name)}"')
                    self.name_commit(name)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.send_content(name)

            def send_content(self, name: str) -> None:
                if hub.busy:
                    self.refuse(hub.busy.pop(0), "")
                    return
                content, start = bytearray(hub.files[name]), 0
                if hub.early is not None and name.endswith(LARGE):
                    del content[hub.early :]
                if name in hub.corrupt:
                    content[len(content) // 2] ^= 1
                wanted = self.headers.get("Range")
                if wanted and hub.ranges:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                else:
                    self.send_response(200)
                self.name_commit(name)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if self.command == "HEAD":
                    return
                cuts = hub.cuts.get(name)
                end = start + cuts.pop(0) if cuts else len(content)
                self.send_bytes(name, bytes(content[start:end]))
                if end < len(content):
                    self.close_connection = True

            def send_bytes(self, name: str, content: bytes) -> None:
                first = len(content) if hub.hold_after is None else hub.hold_after
                self.wfile.write(content[:first])
                self.wfile.flush()
                hub.sent[name] += len(content[:first])
                if first < len(content):
                    hub.held.set()
                    hub.release.wait(30)
                    self.close_connection = True

            def name_commit(self, name: str) -> None:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hub.etag(name)}"')
                self.send_header("Accept-Ranges", "bytes")

            def send_json(self, value: object) -> None:
                content = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def refuse(self, status: int, code: str) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler
