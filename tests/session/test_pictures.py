"""Pictures in a session: named, stored, given to a model that sees, refused by one that does not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from picture_files import BAD, GOOD, png, write
from scripted_engine import NANO, ScriptedEngine
from session.conftest import Chat, ready

from glmtui import i18n
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.errors import UserError
from glmtui.protocol.engine import Stream
from glmtui.protocol.messages import ChatMessage, Image, Text
from glmtui.protocol.models import LocalModel
from glmtui.protocol.requests import CountTokens, Request
from glmtui.session.pictures import dropped, name_of, typed, without_mentions

SEEING = replace(NANO, name="visualglm-6b", sees_images=True)


def seeing_engine(*answers: str, hold: bool = False) -> ScriptedEngine:
    engine = ScriptedEngine(*answers, hold=hold)
    engine.info = SEEING
    return engine


@pytest.fixture
async def seeing() -> Chat:
    """A session with a model that sees."""
    return await ready(Chat(seeing_engine("A gradient.")))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture, which the program was started in."""
    folder = tmp_path / "here"
    folder.mkdir()
    write(folder / "cat.png")
    monkeypatch.chdir(folder)
    return folder


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


CAT = Image(digest(png()), "image/png", "cat.png")

# --- what terminals paste ---


def spaced(here: Path) -> Path:
    folder = here / "my pictures (new)"
    folder.mkdir(exist_ok=True)
    return write(folder / "猫's 1.png")


@pytest.mark.parametrize(
    "written",
    [
        "{path}", " {path}\n", "'{quoted}'", '"{path}"', "{escaped}", "{escaped} ", "{uri}", "{uri}\r\n",
        "file://localhost{encoded}", "x-special/nautilus-clipboard\ncopy\n{uri}",
    ],
)  # fmt: skip
def test_a_path_as_terminals_write_it(here: Path, written: str) -> None:
    path = spaced(here)
    uri = path.as_uri()
    text = written.format(
        path=path, quoted=str(path).replace("'", "'\\''"), uri=uri, encoded=uri.removeprefix("file://"),
        escaped="".join(f"\\{c}" if c in " '()" else c for c in str(path)),
    )  # fmt: skip
    assert dropped(text) == [path]


def test_photographs_that_are_not_taken_are_pictures_too(here: Path) -> None:
    assert dropped(str(write(here / "IMG_1.HEIC"))) == [here / "IMG_1.HEIC"], "so that it is said"
    assert dropped(str(write(here / "web.jfif"))) == [here / "web.jfif"]


def test_several_at_once(here: Path) -> None:
    one, other = spaced(here), here / "cat.png"
    quoted = str(one).replace("'", "'\\''")
    escaped = "".join(f"\\{c}" if c in " '()" else c for c in str(one))
    for text in (f"'{quoted}' '{other}'", f"{escaped} {other} ", f"{one.as_uri()}\n{other.as_uri()}\n"):
        assert dropped(text) == [one, other]


@pytest.mark.parametrize(
    "text",
    ["", "cat", "dog.png", "cat.png and more", "look: cat.png", "'cat.png", "notes.txt cat.png", "\0.png"],
)
def test_what_is_no_path_of_a_picture_is_text(here: Path, text: str) -> None:
    (here / "notes.txt").write_text("x")
    assert dropped(text) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("@cat.png", ["cat.png"]),
        ("@cat.png描述这张图片", ["cat.png"]),
        ("what is in @cat.png?", ["cat.png"]),
        ("@'cat.png' or @\"cat.png\"", ["cat.png"]),
        ("@CAT.PNG @dog.png me@cat.png @cat.pngx @cat.png.txt", []),
    ],
)
def test_pictures_that_a_text_names(text: str, names: list[str]) -> None:
    assert typed(text) == names


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("@cat.png 描述这张图片。", "描述这张图片。"),
        ("描述这张图片。@cat.png", "描述这张图片。"),
        ("@cat.png\n@dog.png what differs?", "what differs?"),
        ("is @cat.png a cat?", "is @cat.png a cat?"),
        ("@cat.png", ""),
    ],
)
def test_names_at_the_ends_are_for_people(text: str, left: str) -> None:
    assert without_mentions(text, ["cat.png", "dog.png"]) == left


# --- sending ---


async def test_a_picture_goes_with_the_message_that_names_it(seeing: Chat) -> None:
    await seeing.enter("@cat.png 描述这张图片。")
    await seeing.idle()
    (request,) = seeing.engine.generated
    assert request.messages[0].parts == (CAT, Text("描述这张图片。"))
    assert request.images == {CAT.sha256: png()}
    question = seeing.saved().branch()[0]
    assert question.text == "@cat.png 描述这张图片。", "as it was written"
    assert question.parts[1:] == (CAT,)


async def test_the_command_puts_its_name_into_the_draft(seeing: Chat) -> None:
    await seeing.enter("/image cat.png")
    assert seeing.fake_ui.text == "@cat.png "
    await seeing.enter("@cat.png What is it?")
    await seeing.idle()
    assert seeing.engine.generated[0].messages[0].parts == (CAT, Text("What is it?"))
    await seeing.enter("And now?")
    await seeing.idle()
    said = seeing.engine.generated[1].messages
    assert [bool([p for p in m.parts if isinstance(p, Image)]) for m in said] == [True, False, False]
    assert seeing.engine.generated[1].images == {CAT.sha256: png()}


async def test_without_keys_it_goes_with_the_next_message(seeing: Chat) -> None:
    seeing.fake_ui.has_keys = False
    await seeing.enter("/image cat.png")
    assert seeing.fake_ui.said == ["With your next message goes: cat.png"]
    await seeing.enter("What is it?")
    await seeing.idle()
    assert seeing.engine.generated[0].messages[0].parts == (CAT, Text("What is it?"))
    assert seeing.texts()[0] == ("user", "What is it?")


async def test_one_whose_name_is_taken_out_does_not_go(seeing: Chat) -> None:
    await seeing.enter("/image cat.png")
    await seeing.enter("What is it?")
    await seeing.idle()
    assert seeing.engine.generated[0].images == {}
    await seeing.enter("/image cat.png")
    await seeing.enter("/image none")
    assert seeing.fake_ui.text == ""
    await seeing.enter("/image none")
    assert seeing.notices("error") == ["No picture goes with your next message."]


async def test_a_name_alone_asks_what_the_demos_ask_first(seeing: Chat) -> None:
    i18n.use("zh_CN")
    await seeing.enter("@cat.png")
    await seeing.idle()
    assert seeing.engine.generated[0].messages[0].parts == (CAT, Text("描述这张图片。"))


async def test_pasted_ones_are_read_at_once_and_have_names_of_their_own(seeing: Chat, here: Path) -> None:
    other = here / "other"
    other.mkdir()
    write(other / "cat.png", GOOD["grey"])
    names = [seeing.name_picture(path) for path in (here / "cat.png", other / "cat.png")]
    assert names == ["cat.png", "cat-2.png"]
    await seeing.enter("What differs in @cat.png and @cat-2.png?")
    await seeing.idle()
    parts = seeing.engine.generated[0].messages[0].parts
    assert [part.sha256 for part in parts if isinstance(part, Image)] == [CAT.sha256, digest(GOOD["grey"])]
    seeing.name_picture(here / "cat.png")
    await seeing.until(lambda: seeing.written.picture_names)
    assert seeing.name_picture(here / "cat.png") == "cat.png", "it is there already"


async def test_a_name_in_the_conversation_is_enough(seeing: Chat, tmp_path: Path) -> None:
    write(tmp_path / "far.png")
    name = seeing.name_picture(tmp_path / "far.png")
    await seeing.enter(f"@{name} what?")
    await seeing.idle()
    await seeing.enter("@far.png again?")
    await seeing.idle()
    question = seeing.engine.generated[1].messages[-1]
    assert question.parts == (Image(CAT.sha256, "image/png", "far.png"), Text("again?"))


async def test_they_come_as_they_are_named(seeing: Chat, here: Path) -> None:
    write(here / "dog.png", GOOD["grey"])
    for name in ("cat.png", "dog.png"):
        await seeing.attach(name)
    await seeing.enter("@dog.png or @cat.png?")
    await seeing.idle()
    parts = seeing.engine.generated[0].messages[0].parts
    assert [part.name for part in parts if isinstance(part, Image)] == ["dog.png", "cat.png"]


async def test_a_draft_keeps_its_picture_over_a_restart(seeing: Chat) -> None:
    await seeing.enter("hello")
    await seeing.idle()
    await seeing.enter("/image cat.png")
    seeing.fake_ui.text = "@cat.png unfinished"
    seeing.draft_changed(seeing.fake_ui.text)
    path = seeing.conversation.path
    seeing.close()
    again = await ready(Chat(seeing_engine()))
    await again.open_first(path)
    assert again.fake_ui.text == "@cat.png unfinished"
    (Path("cat.png")).unlink()
    await again.enter("@cat.png finished")
    await again.idle()
    assert again.engine.generated[0].images == {CAT.sha256: png()}


async def test_the_queue_keeps_it(tmp_path: Path) -> None:
    chat = await ready(Chat(seeing_engine(hold=True)))
    await chat.enter("one")
    await chat.until(lambda: chat.engine.answering)
    await chat.enter("@cat.png two")
    assert chat.queued[0].parts == (Text("@cat.png two"), CAT)
    chat.unqueue()
    assert chat.fake_ui.text == "@cat.png two"
    await chat.enter("@cat.png three")
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert chat.engine.generated[1].images == {CAT.sha256: png()}


async def test_other_versions_of_question_and_answer_keep_it(seeing: Chat) -> None:
    await seeing.enter("@cat.png one")
    await seeing.idle()
    await seeing.regenerate()
    await seeing.idle()
    seeing.edit(seeing.conversation.branch()[0].id)
    await seeing.enter("@cat.png two")
    await seeing.idle()
    assert [request.images for request in seeing.engine.generated] == [{CAT.sha256: png()}] * 3
    seeing.edit(seeing.conversation.branch()[0].id)
    await seeing.enter("none")
    await seeing.idle()
    assert seeing.engine.generated[3].images == {}


async def test_what_is_no_longer_edited_leaves_no_picture_behind(seeing: Chat) -> None:
    seeing.fake_ui.has_keys = False
    await seeing.enter("/image cat.png")
    await seeing.enter("without its name")
    await seeing.idle()
    await seeing.enter("@cat.png with its name")
    await seeing.idle()
    for number, name in ((0, ""), (2, ""), (2, "@cat.png ")):
        seeing.edit(seeing.conversation.branch()[number].id)
        seeing.edit_no_more()
        await seeing.enter(f"{name}new")
        await seeing.idle()
        parts = seeing.engine.generated[-1].messages[-1].parts
        assert [part for part in parts if isinstance(part, Image)] == ([CAT] if name else [])


async def test_one_that_is_being_read_stays_when_nothing_is_edited_any_more(seeing: Chat, here: Path) -> None:
    name = seeing.name_picture(here / "cat.png")
    seeing.edit_no_more()
    await seeing.enter(f"@{name} what?")
    await seeing.idle()
    assert seeing.engine.generated[0].images == {CAT.sha256: png()}


async def test_two_conversations_have_one_file(seeing: Chat) -> None:
    for _number in range(2):
        await seeing.new()
        await seeing.enter("@cat.png what?")
        await seeing.idle()
    folder = seeing.library.folder / "attachments"
    assert [path.name for path in folder.iterdir() if path.name[0] != "."] == [CAT.sha256]
    assert Library().collect_attachments(older_than=-1) == 0
    assert seeing.conversation.path is not None
    await seeing.trash(seeing.conversation.path)
    assert Library().collect_attachments(older_than=-1) == 0


async def test_a_file_that_is_gone_is_named_as_text(seeing: Chat) -> None:
    await seeing.enter("@cat.png what?")
    await seeing.idle()
    seeing.conversation.attachments.path(CAT.sha256).unlink()
    path = seeing.conversation.path
    again = await ready(Chat(seeing_engine()))
    await again.open_first(path)
    await again.regenerate()
    await again.idle()
    (request,) = again.engine.generated
    assert request.images == {}
    assert request.messages[0].parts == (Text("@cat.png what?\n\n(picture: cat.png, not available)"),)


# --- models that do not see ---


async def test_a_model_that_does_not_see_says_so_before_anything_is_sent(chat: Chat, here: Path) -> None:
    for line in ("@cat.png what?", "/image cat.png"):
        await chat.enter(line)
    with pytest.raises(UserError):
        chat.name_picture(here / "cat.png")
    assert chat.notices("error")[0] == ("nano does not see pictures. Choose a model that does: --model NAME")
    assert chat.engine.generated == []
    assert chat.conversation.path is None
    assert chat.fake_ui.text == ""  # the command took it; the message before was put back
    await chat.enter("@cat.png what?")
    assert chat.fake_ui.text == "@cat.png what?", "it is not lost"


async def test_a_model_that_turns_out_blind_answers_nothing() -> None:
    chat = Chat(ScriptedEngine(hold_load=True))
    chat.load()
    await chat.enter("@cat.png what?")
    chat.engine.finish_load()
    await chat.idle()
    assert chat.engine.generated == []
    assert "does not see pictures" in chat.notices("error")[0]
    assert [message.role for message in chat.saved().branch()] == ["user"]


async def test_an_earlier_picture_is_named_to_a_model_that_does_not_see(seeing: Chat) -> None:
    await seeing.enter("@cat.png what?")
    await seeing.idle()
    seeing.engine.info = NANO
    await ready(seeing)
    await seeing.regenerate()
    assert "does not see pictures" in seeing.notices("warning")[-1]
    await seeing.enter("and?")
    await seeing.idle()
    request = seeing.engine.generated[-1]
    assert request.images == {}
    assert request.messages[0].text == "@cat.png what?\n\n(picture: cat.png)"


async def test_a_model_that_comes_later_says_once_that_it_does_not_see(seeing: Chat) -> None:
    await seeing.enter("@cat.png what?")
    await seeing.idle()
    seeing.engine.info = NANO
    seeing.load(LocalModel("another"))
    await seeing.until(lambda: seeing.state.activity == "ready")
    for line in ("/continue", "and?", "and then?"):
        await seeing.enter(line)
        await seeing.idle()
    assert len([said for said in seeing.notices("warning") if "does not see" in said]) == 2, (
        "of the answer that it continues, and of its first own"
    )
    await seeing.new()
    await seeing.enter("hello")
    await seeing.idle()
    assert len([said for said in seeing.notices("warning") if "does not see" in said]) == 2


async def test_the_picture_that_goes_along_is_counted(seeing: Chat) -> None:
    counted: list[CountTokens] = []
    submit = seeing.engine.submit

    def watched(request: Request) -> Stream:
        if isinstance(request, CountTokens):
            counted.append(request)
        return submit(request)

    seeing.engine.submit = watched  # type: ignore[method-assign]
    await seeing.enter("/image cat.png")
    seeing.draft_changed("@cat.png what is it?")
    seeing.measure()
    assert counted[-1].messages == (ChatMessage("user", (CAT, Text("what is it?"))),)
    assert counted[-1].images == {CAT.sha256: png()}
    seeing.draft_changed("what is it?")
    seeing.measure()
    assert counted[-1].images == {}, "its name was taken out"


# --- pictures that programs stumble over ---


@pytest.mark.parametrize("kind", GOOD)
async def test_right_pictures(seeing: Chat, here: Path, kind: str) -> None:
    write(here / "it.png", GOOD[kind])
    await seeing.enter("@it.png what?")
    await seeing.idle()
    assert list(seeing.engine.generated[0].images.values()) == [GOOD[kind]]


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("way", ["command", "mention", "paste"])
async def test_wrong_ones_cost_one_clear_line(seeing: Chat, here: Path, kind: str, way: str) -> None:
    write(here / "it.png", BAD[kind])
    if way == "paste":
        name = seeing.name_picture(here / "it.png")
        await seeing.until(lambda: seeing.notices("error"))
        await seeing.enter(f"@{name} what?")
        assert len(set(seeing.notices("error"))) == 1
    else:
        await seeing.enter("/image it.png" if way == "command" else "@it.png what?")
        assert len(seeing.notices("error")) == 1
    said = seeing.notices("error")[0]
    assert "it.png" in said
    assert "\n" not in said
    assert seeing.engine.generated == []
    if way != "command":
        assert seeing.fake_ui.text == "@it.png what?", "it is not lost"


@pytest.mark.parametrize("source", ["nowhere.png", ".", "/dev/zero", "~nobody/x.png", "\0"])
async def test_what_is_no_file(seeing: Chat, source: str) -> None:
    await seeing.enter(f"/image {source}")
    assert len(seeing.notices("error")) == 1
    assert seeing.engine.generated == []


def test_no_picture_is_called_as_who_may_see_it() -> None:
    assert name_of("https://ada:s3cret@x.example") == "x.example"
    assert name_of("https://ada:s3cret@x.example/cat.png") == "cat.png"


# --- leaving and coming back ---


async def test_exported_and_imported(seeing: Chat, tmp_path: Path, here: Path) -> None:
    from glmtui.chat.export import export, import_file

    await seeing.enter("@cat.png what?")
    await seeing.idle()
    written = {kind: export(seeing.conversation, kind) for kind in ("md", "html", "json", "txt")}
    uri = "data:image/png;base64,iVBORw0KGgo"
    assert f"![cat.png]({uri}" in written["md"]
    assert f'<img alt="Image: cat.png" src="{uri}' in written["html"]
    assert "cat.png" in written["txt"]
    (tmp_path / "it.json").write_text(written["json"], encoding="utf-8")
    found = Conversation.open(import_file(tmp_path / "it.json", Library())[0].path)
    assert found.branch()[0].parts == seeing.conversation.branch()[0].parts
    assert found.attachments.get(CAT.sha256) == png()
