"""What each slash command does, without a screen."""

from __future__ import annotations

import asyncio
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from session.conftest import Chat, ready

from glmtui.chat.conversation import Conversation
from glmtui.errors import StorageError
from glmtui.session.events import ConversationShown
from glmtui.settings.settings import Settings

Make = Callable[..., Chat]


async def asked(make: Make, *answers: str, question: str = "Go") -> Chat:
    """A session with one answered question."""
    chat = await ready(make(*answers))
    await chat.enter(question)
    await chat.idle()
    return chat


def loaded(chat: Chat) -> tuple[object, ...]:
    spec = chat.engine.loads[-1].spec
    return spec.source, spec.quant, spec.device, spec.threads, spec.ptuning


async def test_an_unknown_command_goes_back_and_is_explained(chat: Chat) -> None:
    await chat.enter(" /qant 4 ")
    assert "Did you mean /quant?" in chat.notices("error")[-1]
    assert chat.fake_ui.text == "/qant 4"
    assert chat.engine.generated == []
    assert chat.workspace.prompts.entries() == []


@pytest.mark.parametrize(
    ("line", "view"),
    [
        ("/help", ("help", "")), ("/keys", ("keys", "")), ("/history", ("conversations", "")),
        ("/settings", ("settings", "")), ("/search two words", ("search", "two words")),
        ("/trash", ("trash", "")), ("/preset", ("presets", "")), ("/theme", ("themes", "")),
        ("/models", ("models", "")), ("/model", ("models", "")),
    ],
)  # fmt: skip
async def test_some_are_shown_by_the_program_around_it(chat: Chat, line: str, view: tuple[str, str]) -> None:
    await chat.enter(line)
    assert chat.fake_ui.shown == [view]


async def test_help_for_one_command(chat: Chat) -> None:
    await chat.enter("/help quant")
    assert "/quant 4|8|none" in chat.fake_ui.said[-1]
    await chat.enter("/help qant")
    assert "Did you mean /quant?" in chat.notices("error")[-1]


@pytest.mark.parametrize("line", ["/new", "/clear", "clear"])
async def test_new_and_clear_begin_anew_and_keep_the_old_one(make: Make, line: str) -> None:
    chat = await asked(make)
    old = chat.conversation
    await chat.enter(line)
    assert chat.conversation is not old
    assert chat.of(ConversationShown)[-1].messages == ()
    assert [summary.id for summary in chat.library.list()] == [old.id]


async def test_the_model_is_loaded_again_and_the_conversation_stays(make: Make, tmp_path: Path) -> None:
    chat = await asked(make)
    for line in ("/quant int4", "/device cpu", "/threads 2", f"/model {tmp_path}", "/ptuning /p"):
        await chat.enter(line)
        await chat.idle()
    assert loaded(chat) == (str(tmp_path), "4", "cpu", 2, "/p")
    assert len(chat.engine.loads) == 6
    assert chat.conversation.branch()[0].text == "Go"
    saved = Settings.load()
    assert (saved["model.quant"], saved["model.source"]) == ("4", str(tmp_path))
    for line in ("/ptuning none", "/model nano", "/threads default", "/quant none"):
        await chat.enter(line)
        await chat.idle()
    assert loaded(chat) == (None, "none", "cpu", None, None)


async def test_a_wrong_argument_says_what_is_allowed(chat: Chat) -> None:
    await chat.enter("/quant 5")
    assert "none, 8, 4" in chat.notices("error")[-1]
    await chat.enter("/quant")
    assert "/quant 4|8|none" in chat.notices("error")[-1]
    await chat.enter("/theme nope")
    assert "'nope'" in chat.notices("error")[-1]
    assert len(chat.engine.loads) == 1


async def test_save_and_load(make: Make, tmp_path: Path) -> None:
    chat = await asked(make, question="Keep me")
    await chat.enter(f"/save {tmp_path / 'copy'}")
    copy = tmp_path / "copy.jsonl"
    assert "Keep me" in copy.read_text("utf-8")
    await chat.enter("/new")
    await chat.enter(f"/load {copy}")
    assert chat.conversation.path == copy
    assert chat.of(ConversationShown)[-1].opened
    await chat.enter(f"/load {tmp_path / 'missing.jsonl'}")
    assert "missing.jsonl" in chat.notices("error")[-1]


async def test_load_takes_a_number_of_the_list_shown_last(make: Make) -> None:
    chat = await asked(make)
    path = chat.conversation.path
    assert path is not None
    chat.numbered = [path]
    await chat.enter("/new")
    await chat.enter("/load 2")
    assert "There is no number 2" in chat.notices("error")[-1]
    await chat.enter("/load 1")
    assert chat.conversation.path == path


async def test_rename_asks_when_no_title_is_given(make: Make) -> None:
    chat = await asked(make)
    await chat.enter("/rename 我的标题")
    assert chat.saved().title == "我的标题"
    chat.fake_ui.answers = ["Another"]
    await chat.enter("/rename")
    assert chat.saved().title == "Another"
    await chat.enter("/rename")  # and nothing is said
    assert chat.saved().title == "Another"


async def test_pin(make: Make) -> None:
    chat = await asked(make)
    for pinned in (True, False):
        await chat.enter("/pin")
        assert chat.saved().pinned is pinned
        assert chat.library.list()[0].pinned is pinned


async def test_set_system_and_preset(chat: Chat) -> None:
    await chat.enter("/set generation.temperature 0.3")
    await chat.enter("/preset save calm")
    await chat.enter("/set generation.temperature 1.2")
    await chat.enter("/preset calm")
    assert chat.settings["generation.temperature"] == 0.3
    await chat.enter("/system Be brief.")
    assert chat.preferences.own()["generation.system_prompt"] == "Be brief."
    assert "no system prompt" in chat.fake_ui.said[-1], "of nano"
    await chat.enter("Go")
    await chat.idle()
    assert chat.engine.generated[0].sampling.temperature == 0.3
    assert chat.engine.generated[0].messages[0].role == "user", "nano has no system prompt"
    await chat.enter("/system default")
    assert chat.preferences.own() == {}
    await chat.enter("/preset delete calm")
    assert "calm" not in Settings.load().presets


async def test_copy_takes_the_answer_or_its_code(make: Make) -> None:
    chat = await ready(make("Here:\n\n```python\nprint(1)\n```\n", "No code."))
    await chat.enter("/copy")
    assert "no answer to copy" in chat.fake_ui.said[-1]
    await chat.enter("Go")
    await chat.idle()
    await chat.enter("/copy code")
    await chat.enter("/copy")
    assert chat.fake_ui.copied == ["print(1)", "Here:\n\n```python\nprint(1)\n```\n"]
    await chat.enter("again")
    await chat.idle()
    await chat.enter("/copy code")
    assert "no block of code" in chat.fake_ui.said[-1]


async def test_nothing_to_act_on_is_no_error(make: Make) -> None:
    chat = await ready(make())
    for command in ("/delete", "/edit", "/queue", "/queue send 1", "/copy", "/export md", "/stop", "/undo"):
        said = len(chat.fake_ui.said)
        await chat.enter(command)
        assert len(chat.fake_ui.said) == said + 1, command
    for command in ("/regenerate", "/continue"):
        await chat.enter(command)
    assert chat.notices("error") == []


async def test_a_secret_stands_in_the_settings_alone(make: Make, home: Path) -> None:
    chat = await ready(make())
    for line in (
        "/set web.key s3cret",
        "/set key  s3cret",
        "/set here web.key s3cret",
        " /SET web.key s3cret",
    ):
        assert chat.holds_secret(line)
        chat.draft_changed(line)
        await chat.enter(line)
    for line in ("/set web.key", "/set web.url s3cret", "web.key s3cret", "/help web.key s3cret"):
        assert not chat.holds_secret(line)
    chat.close()
    files = [path for path in home.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert [path.name for path in files] == ["config.toml"]


async def test_stats(make: Make) -> None:
    chat = await ready(make())
    await chat.enter("/stats")
    assert "7.0 M" in chat.fake_ui.said[-1]
    await chat.enter("one")
    await chat.idle()
    await chat.enter("/regenerate")
    await chat.idle()
    await chat.enter("/stats")
    assert "2, with other versions 3" in chat.fake_ui.said[-1]
    assert "of 2,048 tokens" in chat.fake_ui.said[-1]


async def test_export_and_import(make: Make, tmp_path: Path) -> None:
    chat = await asked(make, question="Keep me")
    for kind in ("md", "json", "html", "txt"):
        path = tmp_path / f"out.{kind}"
        await chat.enter(f"/export {kind} {path}")
        assert "Keep me" in path.read_text("utf-8")
        await chat.enter(f"/export {kind} {path}")
        assert "is there already" in chat.notices("error")[-1]
    old = tmp_path / "old.json"
    old.write_text(json.dumps([["旧问题", "旧回答"]], ensure_ascii=False), "utf-8")
    await chat.enter(f"/import {old}")
    assert chat.texts() == [("user", "旧问题"), ("assistant", "旧回答")]
    await chat.enter("/new")
    await chat.enter("/export md")
    assert "nothing to export" in chat.fake_ui.said[-1]


async def test_what_could_not_be_imported_is_named(make: Make, tmp_path: Path) -> None:
    chat = await ready(make())
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("conversations-1.json", json.dumps([["question", "answer"]]))
        archive.writestr("conversations-2.json", "{")
    await chat.enter(f"/import {tmp_path / 'export.zip'}")
    assert chat.texts() == [("user", "question"), ("assistant", "answer")]
    assert ["conversations-2.json" in each for each in chat.notices("error")] == [True]


async def test_the_trash_gives_back_by_number(make: Make) -> None:
    chat = await asked(make)
    old = chat.conversation.id
    await chat.enter("/delete")
    assert "/undo" in chat.fake_ui.said[-1]
    assert chat.conversation.id != old
    await chat.enter("/trash 2")
    assert "There is no number 2" in chat.notices("error")[-1]
    await chat.enter("/trash 1")
    assert chat.conversation.id == old


async def test_quit(chat: Chat) -> None:
    await chat.enter("/quit")
    assert chat.fake_ui.left


async def test_what_a_line_could_become(chat: Chat) -> None:
    offers = [text for text, _description, _label in chat.commands.offers(chat, "/qu")]
    assert offers[:3] == ["/queue ", "/quant ", "/quit"]
    assert [text for text, *_rest in chat.commands.offers(chat, "/theme mid")] == ["/theme midnight"]
    assert list(chat.commands.offers(chat, "hello")) == []


async def test_the_conversation_of_the_command_line_is_made(make: Make, tmp_path: Path) -> None:
    chat, path = make(), tmp_path / "talk.jsonl"
    await chat.open_first(path)
    await ready(chat)
    assert not path.exists()
    await chat.enter("Go")
    await chat.idle()
    assert Conversation.open(path).branch()[0].text == "Go"


@pytest.mark.parametrize("line", ["/trash", "/load", "/queue cancel"])
@pytest.mark.parametrize(
    "number", ["9" * 5000, "²", "0", "00", "-1", "x" * 5000, "a\0b"], ids=lambda text: ascii(text[:9])
)
async def test_odd_numbers_and_names_are_said_to_be_none(make: Make, line: str, number: str) -> None:
    chat = await ready(make("one", "two"))
    await chat.enter("hello")
    await chat.idle()
    assert chat.conversation.path is not None
    chat.numbered = [chat.conversation.path]
    if line.startswith("/queue"):
        chat.engine.hold = True
        await chat.enter("answered")
        await chat.enter("waits")
        assert len(chat.queued) == 1
    await chat.enter(f"{line} {number}")
    assert len(chat.notices("error")) == 1


async def test_a_conversation_elsewhere_is_not_deleted_but_named(make: Make, tmp_path: Path) -> None:
    chat = await ready(make("one"))
    path = tmp_path / "elsewhere.jsonl"
    await chat.open_first(path)
    await chat.enter("hello")
    await chat.idle()
    await chat.enter("/delete")
    assert str(path) in chat.notices("error")[-1]
    assert path.exists()


async def test_a_long_import_leaves_the_loop_alone_and_can_be_stopped(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await ready(make("one"))
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"messages": [{"role": "user", "content": f"q{n}"}]} for n in range(50)]))
    go_on = threading.Event()
    keep_in = Conversation.keep_in

    def slow(conversation: Conversation, folder: Path) -> None:
        keep_in(conversation, folder)
        go_on.wait(10)

    monkeypatch.setattr(Conversation, "keep_in", slow)
    importing = asyncio.ensure_future(chat.enter(f"/import {path}"))
    await chat.until(lambda: chat.state.importing and list(chat.library.folder.glob("*.jsonl")))
    await chat.enter("/import again.json")
    assert len(chat.notices("error")) == 1
    assert chat.stop()
    go_on.set()
    await importing
    assert chat.state.importing is None
    assert len(list(chat.library.folder.glob("*.jsonl"))) == 1
    assert chat.conversation.title == "q0"
    assert not chat.stop()


async def test_an_export_that_cannot_be_written_as_it_is_leaves_no_empty_file(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chat = await ready(make("answer"))
    await chat.enter("hello")
    await chat.idle()
    leaf = chat.conversation.leaf
    assert leaf is not None
    chat.conversation.finish(leaf, "answer", meta={"model": "\ud800"})
    for name in ("md", "html", "txt", "json"):
        await chat.enter(f"/export {name} out.{name}")
        assert "answer" in (tmp_path / f"out.{name}").read_text(encoding="utf-8")
    assert chat.notices("error") == []


async def test_after_a_message_that_was_too_long_the_conversation_goes_on(make: Make) -> None:
    chat = await ready(make("hello"))
    with chat.saving():
        chat.conversation.append("user", "long")
        answer = chat.conversation.append("assistant", "", state="partial")
        chat.conversation.finish(answer.id, "", "failed", {"error": "too long", "error_code": "too_long"})
    assert chat.conversation.messages_for_model() == ()
    await chat.enter("hi")
    await chat.idle()
    assert [message.text for message in chat.conversation.messages_for_model()] == ["hi", "hello"]


async def test_what_could_not_be_saved_is_not_called_empty(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object, **_named: object) -> None:
        raise StorageError("full")

    await chat.enter("/delete")
    empty = chat.fake_ui.said[-1]
    monkeypatch.setattr("glmtui.chat.files.ConversationFile.create", refuse)
    await chat.enter("hi")
    await chat.idle()
    await chat.enter("/delete")
    assert chat.conversation.messages
    assert chat.fake_ui.said[-1] != empty
