"""Getting a model from a hub on the loopback: what comes, what is kept, what is said when it does not."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden_data import GOLDEN
from hub_server import COMMIT, HubServer

from glmtui.errors import UserError
from glmtui.hub import cache as hub_cache
from glmtui.hub import catalog, download
from glmtui.hub import client as hub
from glmtui.hub.client import needed
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.models import FileProgress

WEIGHTS = "pytorch_model.bin"
SHARDS = [f"pytorch_model-0000{number}-of-00003.bin" for number in (1, 2, 3)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, no token, and no waiting."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    return tmp_path / "hub"


@pytest.fixture
def server() -> HubServer:
    """ChatGLM-6B in three shards, with the code that its authors put next to it."""
    server = HubServer.of_folder("chatglm-6b", GOLDEN / "chatglm-fp16-sharded")
    server.files |= {"modeling_chatglm.py": b"import os", "ice_text.model": b"m" * 4000, "README.md": b"#"}
    return server


@pytest.fixture
def address(server: HubServer) -> Iterator[str]:
    with server.running() as address:
        yield address


def get(address: str, source: str = "chatglm-6b", **options: object) -> Path:
    return download.fetch(hub.list_files(source, address), **options)  # type: ignore[arg-type]


def refused(address: str, *words: str, source: str = "chatglm-6b") -> str:
    """Try to download; return the one line that says why not, which has all the words."""
    with pytest.raises(UserError) as caught:
        get(address, source)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message
    return message


# --- what comes ---


def test_a_model_comes_whole_and_is_found_by_name(server: HubServer, address: str, cache: Path) -> None:
    path = get(address)
    assert path == cache / "models--zai-org--chatglm-6b" / "snapshots" / COMMIT
    for name in (*SHARDS, "config.json", "pytorch_model.bin.index.json", "ice_text.model"):
        assert (path / name).read_bytes() == server.files[name]
    assert catalog.resolve("chatglm-6b").path == path
    assert not list(cache.rglob("*.incomplete"))


def test_code_never_comes(server: HubServer, address: str) -> None:
    path = get(address)
    assert not list(path.glob("*.py"))
    assert not [request for request in server.requests if ".py" in request]


def test_other_programs_find_it_where_they_expect_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    path = get(address)
    found = snapshot_download(
        "zai-org/chatglm-6b",
        cache_dir=hub_cache.folder(),
        local_files_only=True,
        allow_patterns=["config.json"],
    )
    assert Path(found) == path


def test_weights_come_once_and_safetensors_first() -> None:
    both = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    both += ["model.safetensors.index.json", "tokenizer.model", "tokenizer_config.json"]
    others = [
        "pytorch_model-00001-of-00007.bin",
        "pytorch_model.bin.index.json",
        "quantization.py",
        "tf_model.h5",
    ]
    assert needed([*both, *others, "README.md", "assets/logo.png", ".gitattributes"]) == sorted(both)
    assert needed(["config.json", "pytorch_model.bin", "MODEL_LICENSE", "tokenizer.json"]) == [
        "MODEL_LICENSE", "config.json", "pytorch_model.bin", "tokenizer.json",
    ]  # fmt: skip
    assert needed(["config.json", "model.gguf"]) == []


def test_progress_of_every_file(address: str, server: HubServer) -> None:
    seen: list[tuple[FileProgress, ...]] = []
    get(address, report=seen.append)
    assert {file.name for file in seen[0]} == set(needed(server.files))
    assert all(file.done == file.size == len(server.files[file.name]) for file in seen[-1])
    done = [sum(file.done for file in files) for files in seen]
    assert done == sorted(done)


def test_what_is_here_is_not_fetched_again(address: str, server: HubServer) -> None:
    get(address)
    before = server.sent.copy()
    listing = hub.list_files("chatglm-6b", address)
    assert download.remaining(listing) == 0
    assert download.fetch(listing)
    assert server.sent == before


def test_a_revision_is_pinned(address: str) -> None:
    path = get(address, "chatglm-6b@v1.0")
    assert catalog.resolve("chatglm-6b@v1.0").path == path
    assert catalog.resolve(f"zai-org/chatglm-6b@{COMMIT}").path == path
    refused(address, "zai-org/chatglm-6b", "no revision v9", source="chatglm-6b@v9")
    refused(address, "no revision", source="chatglm-6b@../../etc")


def test_the_token_goes_to_the_hub(server: HubServer, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(address)
    assert "Bearer hf_secret" in server.authorisations


# --- cut connections ---


def test_a_cut_connection_is_taken_up_again(server: HubServer, address: str) -> None:
    server.cuts[SHARDS[0]] = [1000, 5000, 3]
    path = get(address)
    assert (path / SHARDS[0]).read_bytes() == server.files[SHARDS[0]]
    ranges = [request.rsplit(" ", 1)[1] for request in server.requests if f"cdn/{SHARDS[0]} b" in request]
    assert ranges == ["bytes=1000-", "bytes=6000-", "bytes=6003-"]
    assert server.sent[SHARDS[0]] == len(server.files[SHARDS[0]])


def test_a_server_without_ranges_sends_it_anew(server: HubServer, address: str) -> None:
    server.ranges = False
    server.cuts[SHARDS[0]] = [1000]
    assert (get(address) / SHARDS[0]).read_bytes() == server.files[SHARDS[0]]


def test_a_busy_server_is_asked_again(server: HubServer, address: str) -> None:
    server.busy = [503, 429, 502]
    assert get(address)


def test_a_line_that_stays_cut_is_said_and_what_came_is_kept(server: HubServer, address: str) -> None:
    server.cuts[SHARDS[0]] = [1000] + [0] * download.TRIES
    refused(address, "No connection", address, "--model FOLDER", "HF_ENDPOINT=https://hf-mirror.com")
    assert catalog_says_absent()
    server.cuts.clear()
    server.requests.clear()
    get(address)
    assert f"GET /cdn/{SHARDS[0]} bytes=1000-" in server.requests


def catalog_says_absent() -> bool:
    with pytest.raises(UserError, match="not on this machine"):
        catalog.resolve("chatglm-6b")
    return True


# --- damage ---


@pytest.mark.parametrize("name", [SHARDS[1], "config.json"])
def test_a_damaged_file_is_named_and_thrown_away(
    server: HubServer, address: str, cache: Path, name: str
) -> None:
    server.corrupt.add(name)
    refused(address, name, "zai-org/chatglm-6b", "damaged", "download again")
    assert not (cache / "models--zai-org--chatglm-6b" / "blobs" / server.etag(name)).exists()
    assert not (cache / "models--zai-org--chatglm-6b" / "blobs" / f"{server.etag(name)}.incomplete").exists()
    assert catalog_says_absent()
    server.corrupt.clear()
    assert (get(address) / name).read_bytes() == server.files[name]


def test_a_part_that_was_damaged_on_the_disk_is_found_out(
    server: HubServer, address: str, cache: Path
) -> None:
    blobs = cache / "models--zai-org--chatglm-6b" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{server.etag(SHARDS[0])}.incomplete").write_bytes(b"x" * 1000)
    refused(address, SHARDS[0], "damaged")
    assert get(address)


def test_a_file_that_was_cut_short_on_the_disk_comes_again(server: HubServer, address: str) -> None:
    path = get(address)
    (path / SHARDS[1]).resolve().write_bytes(b"short")
    (path / SHARDS[2]).unlink()
    (path / SHARDS[2]).write_bytes(b"a file, not a link")
    assert (get(address) / SHARDS[1]).read_bytes() == server.files[SHARDS[1]]
    assert (path / SHARDS[2]).read_bytes() == server.files[SHARDS[2]]


def test_checking_finds_what_was_damaged_on_the_disk(server: HubServer, address: str) -> None:
    path = get(address)
    assert download.check("zai-org/chatglm-6b") == ()
    blob = (path / SHARDS[1]).resolve()
    content = bytearray(blob.read_bytes())
    content[1000] ^= 1
    blob.write_bytes(content)
    seen: list[tuple[FileProgress, ...]] = []
    assert download.check("zai-org/chatglm-6b", seen.append) == (SHARDS[1],)
    assert all(file.done == file.size for file in seen[-1])
    assert download.remaining(hub.list_files("chatglm-6b", address)) == len(content)
    assert (get(address) / SHARDS[1]).read_bytes() == server.files[SHARDS[1]]
    assert download.check("zai-org/chatglm-6b") == ()


# --- refusals ---


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "RepoNotFound", ["no model zai-org/chatglm-6b", "Check the name"]),
        (401, "RepoNotFound", ["no model zai-org/chatglm-6b", "private", "HF_TOKEN"]),
        (401, "", ["refuses", "401", "HF_TOKEN"]),
        (403, "GatedRepo", ["zai-org/chatglm-6b", "conditions", "HF_TOKEN"]),
        (401, "GatedRepo", ["zai-org/chatglm-6b", "conditions", "HF_TOKEN"]),
        (403, "", ["refuses", "403", "HF_TOKEN"]),
        (429, "", ["too many requests"]),
        (500, "", ["status 500", "Try again later"]),
    ],
)
def test_refusals(
    server: HubServer, address: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str, words: list[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    server.status, server.error_code = status, code
    refused(address, *words)


def test_a_line_that_ends_early_without_a_fault_is_given_up(server: HubServer, address: str) -> None:
    """As behind a proxy that cuts long answers: every try that brings nothing new counts."""
    server.early = 700
    refused(address, "ends", "What has come is kept")
    asked = [request for request in server.requests if "cdn" in request]
    assert len(asked) <= 3 * 2 * (download.TRIES + 1)


def test_a_login_page_instead_of_the_hub(server: HubServer, address: str) -> None:
    server.page = b"<html>Please log in</html>"
    refused(address, "does not answer as a hub does", "login page")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:7891/", ("ALL_PROXY", "socks://127.0.0.1:7891/", "http://")),
        ("https_proxy", "ftp://x", ("https_proxy", "ftp://x")),
        ("https_proxy", "http://h:port", ("https_proxy", "h:port")),
        ("HTTP_PROXY", "h:99999", ("HTTP_PROXY", "h:99999")),
        ("ALL_PROXY", f"http://{'a' * 80}.com", ("ALL_PROXY",)),
        ("HTTPS_PROXY", "http://a\x1b[2J", ("HTTPS_PROXY", "a")),
        ("HF_ENDPOINT", "http://[::1", ("HF_ENDPOINT", "[::1")),
        ("HF_ENDPOINT", "not an address", ("HF_ENDPOINT", "not an address")),
        ("HF_ENDPOINT", "http://", ("HF_ENDPOINT",)),
        ("HF_TOKEN", "令牌", ("HF_TOKEN", "access token")),
        ("SSL_CERT_FILE", "/nowhere/x.pem", ("SSL_CERT_FILE", "/nowhere/x.pem")),
    ],
)
def test_a_variable_that_cannot_be_is_named(
    address: str,
    server: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv(variable, value)
    refused(address, *words)
    assert server.requests == []


def test_a_socks_proxy_without_its_package(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:7890")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    refused(address, "ALL_PROXY", "socksio")


def test_why_there_is_no_connection_is_said_for_people() -> None:
    said = refused("http://no-such-host.invalid", "No connection", "is there a network?")
    assert "Errno" not in said
    assert "refuses" in refused("http://127.0.0.1:9", "No connection")


def test_no_network() -> None:
    refused("http://127.0.0.1:9", "No connection to http://127.0.0.1:9", "--model FOLDER", "hf-mirror.com")


def test_offline(address: str, monkeypatch: pytest.MonkeyPatch, server: HubServer) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(address, "HF_HUB_OFFLINE is set", "--model FOLDER")
    assert server.requests == []


def test_a_model_without_weights_of_ours(server: HubServer, address: str) -> None:
    server.files = {"config.json": b"{}", "model.gguf": b"x"}
    refused(address, "zai-org/chatglm-6b has no weights", "safetensors")


# --- room ---


def test_a_disk_without_room_is_said_before_anything_comes(
    server: HubServer, address: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(hub_cache, "free_bytes", lambda: 10_000_000)
    refused(address, "zai-org/chatglm-6b", str(cache), "are free", "HF_HUB_CACHE")
    assert not server.sent


def test_a_disk_that_fills_up(
    server: HubServer, address: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    append = download._append

    def full(session: object, listing: object, part: download._Part, *rest: object) -> object:
        if part.file.name == SHARDS[2]:
            raise OSError(errno.ENOSPC, "No space left on device", str(part.part))
        return append(session, listing, part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(download, "_append", full)
    refused(address, "The disk is full", str(cache), "HF_HUB_CACHE")
    assert catalog_says_absent()
    monkeypatch.setattr(download, "_append", append)
    assert get(address)


# --- stopping ---


def test_stopping_is_at_once_and_loses_nothing(server: HubServer, address: str) -> None:
    server.hold_after = 2000
    stop = CancelToken()

    def stop_when_held() -> None:
        assert server.held.wait(10)
        deadline = time.monotonic() + 10
        while hub_cache.size_of("zai-org/chatglm-6b") < 2000 and time.monotonic() < deadline:
            pass  # sent is not yet written
        stop.cancel()

    threading.Thread(target=stop_when_held, daemon=True).start()
    with pytest.raises(OperationCancelled):
        get(address, token=stop)  # though the server sends nothing more and the connection stays open
    assert not server.release.is_set()
    assert catalog_says_absent()
    server.release.set()
    server.hold_after = None
    path = get(address)
    assert all((path / name).read_bytes() == server.files[name] for name in SHARDS)
    assert any("bytes=2000-" in request for request in server.requests)


def test_two_at_a_time_do_not_write_into_each_other(server: HubServer, address: str) -> None:
    server.hold_after = 2000
    stop = CancelToken()

    def download_until_stopped() -> None:
        with pytest.raises(OperationCancelled):
            get(address, token=stop)

    first = threading.Thread(target=download_until_stopped, daemon=True)
    first.start()
    assert server.held.wait(10)
    refused(address, "zai-org/chatglm-6b is being downloaded by another program")
    stop.cancel()
    first.join(10)


# --- removing ---


def test_removing_frees_what_it_says(address: str, server: HubServer, cache: Path) -> None:
    get(address)
    size = sum(len(server.files[name]) for name in needed(server.files))
    assert hub_cache.size_of("zai-org/chatglm-6b") == size
    assert hub_cache.remove("zai-org/chatglm-6b") == size
    assert catalog_says_absent()
    assert not (cache / "models--zai-org--chatglm-6b").exists()


def test_without_links_files_are_moved(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: object) -> None:
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    path = get(address)
    assert not (path / "config.json").is_symlink()
    assert json.loads((path / "config.json").read_bytes())
    assert download.remaining(hub.list_files("chatglm-6b", address)) == 0
    shutil.rmtree(path)
