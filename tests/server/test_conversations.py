"""The page's conversations in the library: the paths, and what becomes of the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Served, end, make

from glmtui.chat.library import Library
from glmtui.session.page_library import PageLibrary

PATH = "/conversations/abc"


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "conversations", cache=tmp_path / "cache")


@pytest.fixture
def keeping(library: Library) -> Iterator[Served]:
    served = make(library=PageLibrary(library))
    yield served
    end(served)


def said(number: str, role: str, text: str, **more: str) -> dict[str, str]:
    return {"id": number, "role": role, "text": text, **more}


def keep(served: Served, *messages: dict[str, str]) -> None:
    assert served.client.post(PATH, json={"messages": messages}).status_code == 204


def texts(library: Library) -> list[str]:
    return [message.text for message in library.open("abc").branch()]


def test_without_a_library_the_page_is_told_so(served: Served) -> None:
    assert served.client.get("/conversations").json() == {"kept": False, "conversations": []}
    for method in ("GET", "POST", "DELETE"):
        assert served.client.request(method, PATH, json={}).status_code == 404


def test_an_answer_grows_in_its_file_and_has_its_model(keeping: Served, library: Library) -> None:
    question = said("q", "user", "你好")
    keep(keeping, question, said("a", "assistant", "", state="partial"))
    keep(keeping, question, said("a", "assistant", "He", state="partial", thought="hm"))
    keep(keeping, question, said("a", "assistant", "Hello", state="partial", thought="hmm"))
    keep(keeping, question, said("a", "assistant", "Hello!", thought="hmm"))
    conversation = library.open("abc")
    answer = conversation.branch()[-1]
    assert (answer.text, answer.thought, answer.state) == ("Hello!", "hmm", "done")
    assert answer.meta["model"] == "nano"
    assert [record["type"] for record in conversation.records()].count("message") == 2
    (listed,) = keeping.client.get("/conversations").json()["conversations"]
    assert listed["id"] == "abc"
    assert listed["title"] == conversation.title
    assert keeping.client.get(PATH).json()["messages"][1] == {
        "id": "a", "role": "assistant", "text": "Hello!", "state": "done", "thought": "hmm",
    }  # fmt: skip


def test_what_is_said_otherwise_is_another_version(keeping: Served, library: Library) -> None:
    keep(keeping, said("q", "user", "one"), said("a", "assistant", "1"))
    keep(keeping, said("p", "user", "two"), said("b", "assistant", "2", state="failed", error="No memory."))
    assert texts(library) == ["two", "2"]
    conversation = library.open("abc")
    assert [message.text for message in conversation.messages.values()] == ["one", "1", "two", "2"]
    assert keeping.client.get(PATH).json()["messages"][1]["error"] == "No memory."
    keep(keeping, said("q", "user", "one"), said("a", "assistant", "1"))
    assert texts(library) == ["one", "1"]


def test_what_the_app_deleted_comes_back_only_where_it_goes_on(keeping: Served, library: Library) -> None:
    both = said("q", "user", "one"), said("a", "assistant", "1")
    keep(keeping, *both)
    library.open("abc").delete("a")
    keep(keeping, *both)
    assert texts(library) == ["one"]
    keep(keeping, *both, said("r", "user", "two"))
    assert texts(library) == ["one", "1", "two"]


def test_it_is_removed_to_the_trash(keeping: Served, library: Library) -> None:
    keep(keeping, said("q", "user", "one"))
    assert keeping.client.delete(PATH).status_code == 204
    assert keeping.client.delete(PATH).status_code == keeping.client.get(PATH).status_code == 404
    library.restore(library.trashed()[0].path)
    assert texts(library) == ["one"]


@pytest.mark.parametrize(
    "messages",
    [
        None, [], "x", [3], [{}], [said("", "user", "x")], [said("../x", "user", "x")],
        [said("q", "system", "x")], [said("q", "user", "x", state="odd")], [{"id": "q", "role": "user"}],
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused(keeping: Served, library: Library, messages: Any) -> None:
    response = keeping.client.post(PATH, json={"messages": messages})
    assert response.status_code == 400
    assert "message" in response.json()["error"]["message"]
    assert not library.list()


@pytest.mark.parametrize("name", ["..%2Fx", "%2e%2e%2fx", "a b", "x" * 101, "\u4f60"])
def test_an_id_is_no_path(keeping: Served, library: Library, tmp_path: Path, name: str) -> None:
    response = keeping.client.post(f"/conversations/{name}", json={"messages": [said("q", "user", "x")]})
    assert response.status_code in (400, 404, 405)
    assert not [*tmp_path.rglob("*.jsonl")]


def test_a_page_from_elsewhere_cannot_reach_it(keeping: Served, library: Library) -> None:
    keep(keeping, said("q", "user", "one"))
    for method in ("GET", "POST", "DELETE"):
        response = keeping.client.request(method, PATH, headers={"Origin": "http://evil.example"}, json={})
        assert response.status_code == 403
    assert texts(library) == ["one"]
