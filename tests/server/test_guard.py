"""Nobody reaches the model through somebody else's browser, or without the key."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from served import QUESTION, MakeServer, Served, wait_for

from glmtui.errors import UsageError, UserError
from glmtui.server.guard import Rates
from glmtui.server.options import ServerOptions, is_loopback, listen, read_keys, url

EVIL = "http://evil.example"
SECRET = "a text that nobody else shall read"


def code_of(response: httpx2.Response) -> str:
    return str(response.json()["error"]["code"])


# --- names: DNS rebinding ---


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
        "192.168.0.7", "[::1].evil.example", "localhost@evil.example", "0.0.0.0", "[fe80::1]:80", "",
    ],
)  # fmt: skip
def test_another_name_is_not_answered(served: Served, host: str) -> None:
    for path in ("/", "/health", "/v1/models", "/page/app.js"):
        response = served.client.get(path, headers={"Host": host})
        assert (response.status_code, code_of(response)) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "LocalHost", "[::1]:80", "[::1]"])
def test_the_names_of_this_machine_are_answered(served: Served, host: str) -> None:
    assert served.client.get("/health", headers={"Host": host}).status_code == 200


def test_a_name_can_be_allowed(serve: MakeServer) -> None:
    served = serve(names=frozenset({"Host.Docker.internal"}))
    assert served.client.get("/health", headers={"Host": "host.docker.internal:8000"}).status_code == 200


def test_a_body_whose_length_is_told_in_two_ways_is_not_read(served: Served) -> None:
    headers = {"Content-Length": "5", "Transfer-Encoding": "chunked"}
    response = served.client.post("/", content=iter([b"{}"]), headers=headers)
    assert (response.status_code, code_of(response)) == (400, "invalid_http")
    assert response.headers["connection"] == "close"


# --- origins: CSRF ---


@pytest.mark.parametrize(
    "origin", [EVIL, "null", "http://localhost:1", "https://127.0.0.1", "file://", "http://["]
)
def test_a_page_from_elsewhere_is_not_answered(served: Served, origin: str) -> None:
    body = {"prompt": "x", "messages": QUESTION}
    for path in ("/", "/v1/chat/completions", "/tokenize"):
        response = served.client.post(path, json=body, headers={"Origin": origin})
        assert (response.status_code, code_of(response)) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in response.headers
    assert served.scripted.generated == []


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_it_cannot_read_or_ask_beforehand_either(served: Served, method: str) -> None:
    headers = {"Origin": EVIL, "Access-Control-Request-Method": "POST"}
    assert served.client.request(method, "/v1/models", headers=headers).status_code == 403


def test_a_picture_or_script_from_elsewhere_is_not_served_but_a_link_is_followed(served: Served) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert served.client.get("/v1/models", headers={**cross, "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert served.client.get("/", headers={**cross, "Sec-Fetch-Mode": "navigate"}).status_code == 200
    posted = served.client.post("/", json={"prompt": "x"}, headers={**cross, "Sec-Fetch-Mode": "navigate"})
    assert posted.status_code == 403


def test_the_own_page_may_ask_with_json_alone(served: Served) -> None:
    own = {"Origin": served.url}
    assert served.client.post("/", json={"prompt": "x"}, headers=own).status_code == 200
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
    ):
        response = served.client.post("/", content='{"prompt": "x"}', headers={**own, "Content-Type": kind})
        assert (response.status_code, code_of(response)) == (415, "unsupported_media_type")
    assert served.client.post("/", content='{"prompt": "x"}', headers=own).status_code == 415


def test_an_origin_can_be_allowed(serve: MakeServer) -> None:
    served = serve(origins=frozenset({"https://chat.example"}), keys=("k1",))
    headers = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
    asked = served.client.options("/v1/chat/completions", headers=headers)
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "https://chat.example"
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    for names, allowed in (("content-type, x-stainless-os", True), ("x-a,,x-b", False), ("x" * 9999, False)):
        named = headers | {"Access-Control-Request-Headers": names}
        answer = served.client.options("/v1/chat/completions", headers=named)
        assert (answer.headers["access-control-allow-headers"] == names) is allowed
    headers |= {"Authorization": "Bearer k1"}
    response = served.client.post("/", json={"prompt": "x"}, headers=headers)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://chat.example"
    assert "access-control-allow-credentials" not in response.headers
    assert served.client.get("/v1/models", headers={"Origin": EVIL}).status_code == 403


def test_websockets_are_turned_down(served: Served) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": EVIL}
    assert served.client.get("/", headers=headers).status_code == 403


def test_headers_protect_every_response(served: Served) -> None:
    for path in ("/", "/health", "/nothing"):
        headers = served.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers


# --- keys ---


def test_a_key_is_demanded(serve: MakeServer) -> None:
    served = serve(keys=("first-key", "second-key"))
    wrong = (
        {}, {"Authorization": "Bearer"}, {"Authorization": "Bearer first"}, {"Authorization": "first-key"},
        {"Authorization": "Basic first-key"}, {"X-Api-Key": "x"}, {"Authorization": "Bearer first-key x"},
    )  # fmt: skip
    right = (
        {"Authorization": "Bearer first-key"}, {"authorization": "bearer  second-key"},
        {"X-Api-Key": "first-key"},
    )  # fmt: skip
    for path in ("/v1/models", "/metrics", "/nothing"):
        for headers in wrong:
            response = served.client.get(path, headers=headers)
            assert (response.status_code, code_of(response)) == (401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
        for headers in right:
            assert served.client.get(path, headers=headers).status_code in (200, 404)
    assert served.client.post("/", json={"prompt": "x"}).status_code == 401
    assert served.client.get("/health").status_code == 200
    assert served.client.get("/").status_code == 200, "the page asks for the key"


def test_other_machines_need_a_key(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org", ""):
        assert not is_loopback(host)
        with pytest.raises(UsageError):
            ServerOptions(host)
        ServerOptions(host, keys=("k",))
    for host in ("127.0.0.1", "127.3.2.1", "::1", "localhost"):
        assert is_loopback(host)


@pytest.mark.parametrize("name", ["http://box", "box:8000", "a b", "", "box/x", "u@box"])
def test_a_name_is_a_name(name: str) -> None:
    with pytest.raises(UsageError):
        ServerOptions(names=frozenset({name}))


@pytest.mark.parametrize(
    "origin", ["*", "example.org", "https://", "https://x.org/page", "https://*.x.org", ""]
)
def test_an_origin_is_the_beginning_of_an_address(origin: str) -> None:
    with pytest.raises(UsageError):
        ServerOptions(origins=frozenset({origin}))


def test_what_is_named_so_is_taken() -> None:
    names = frozenset({"host.docker.internal", "box", "盒子", "fe80::1"})
    origins = frozenset({"https://x.org/", "http://[::1]:3000", "chrome-extension://abc"})
    assert ServerOptions(names=names, origins=origins).names >= names


def test_a_server_for_other_machines_answers_to_addresses_and_its_names(serve: MakeServer) -> None:
    served = serve(host="0.0.0.0", keys=("k",), names=frozenset({"box.lan"}))
    for host, status in (("10.0.0.3:8000", 200), ("box.lan", 200), ("evil.example", 403), ("[fe80::1]", 200)):
        assert served.client.get("/health", headers={"Host": host}).status_code == status


def test_keys_are_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the team\n\n sk-one \r\nsk-two", encoding="utf-8")
    assert read_keys(file) == ("sk-one", "sk-two")
    for text in ("", "# none\n", "two words", "密钥", "a\tb"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(UserError):
            read_keys(file)
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path / "missing", tmp_path):
        with pytest.raises(UserError):
            read_keys(path)


# --- the rest ---


def test_a_client_has_so_many_requests_a_minute(serve: MakeServer) -> None:
    served = serve(limits={"requests_per_minute": 3})
    assert [served.client.get("/v1/models").status_code for _ in range(4)] == [200, 200, 200, 429]
    response = served.client.get("/v1/models")
    assert code_of(response) == "rate_limited"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert served.client.get("/health").status_code == 200


def test_wrong_keys_are_counted_too(serve: MakeServer) -> None:
    served = serve(limits={"requests_per_minute": 3}, keys=("k",))
    headers = {"Authorization": "Bearer guess"}
    statuses = [served.client.get("/v1/models", headers=headers).status_code for _ in range(4)]
    assert statuses == [401, 401, 401, 429]
    assert served.client.get("/v1/models", headers={"Authorization": "Bearer k"}).status_code == 200


def test_few_clients_are_remembered() -> None:
    rates = Rates(10)
    for number in range(2 * Rates.MOST):
        rates.take(str(number))
    assert len(rates._left) == Rates.MOST


def test_the_log_tells_who_asked_and_never_what(served: Served) -> None:
    served.ready(SECRET)
    served.chat([{"role": "user", "content": SECRET}])
    served.client.post(f"/%1b[31m?q={SECRET}", content=SECRET)
    served.client.get("/v1/models", headers={"Authorization": f"Bearer {SECRET}"})
    log = "\n".join(served.lines)
    assert "POST /v1/chat/completions 200" in log
    assert "10+2 tokens" in log
    assert SECRET not in log
    assert "\x1b" not in log


def test_the_log_has_the_tokens_of_an_answer_that_is_cut(served: Served) -> None:
    served.ready("A long answer", hold=True)
    body = {"messages": QUESTION, "stream": True}
    with served.client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert any("A long" in line for line in response.iter_lines())
    wait_for(lambda: any("POST" in line for line in served.lines))
    assert "2+1 tokens" in "\n".join(served.lines)


def test_a_port_in_use_is_told() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(UserError):
        listen("no.such.host.invalid", 0)


def test_addresses_for_browsers() -> None:
    assert url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert url("::", 80) == "http://[::1]:80"
    assert url("box.lan", 8000) == "http://box.lan:8000"
