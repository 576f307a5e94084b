"""The line mode by its lines: what goes in, what comes out, what the files hold."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from scripted_engine import ScriptedEngine

from glmtui import i18n
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.chat.state_log import Draft, Drafts, QueuedMessage, QueuedMessages
from glmtui.chat.tree import Message
from glmtui.plain.line_mode import LineMode
from glmtui.plain.line_printer import LinePrinter
from glmtui.plain.printer import unmarked
from glmtui.plain.reader import Offers, StreamReader, read_message
from glmtui.protocol.engine import Stream
from glmtui.protocol.messages import Attachment, Text
from glmtui.protocol.phrases import verbatim
from glmtui.protocol.requests import Request
from glmtui.session.events import AnswerBegun, AnswerEnded, AnswerGrew
from glmtui.session.options import AppOptions
from glmtui.session.slash.registry import COMMANDS
from glmtui.settings.settings import Settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.chdir(tmp_path)
    i18n.use("en")
    yield tmp_path / "home"
    i18n.use("en")


class Typist:
    """A person at a terminal: types `lines`, and may be offered text to begin with."""

    interactive = True

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.offered: list[str] = []
        self.complete: Offers = lambda _before: []

    def read(self, prompt: str, text: str = "") -> str:
        self.offered.append(text)
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)

    def prepare(self, history: Sequence[str], offers: Offers) -> None:
        self.complete = offers

    def remember(self, line: str) -> None:
        pass


def chat(script: str | Typist, *answers: str, engine: ScriptedEngine | None = None) -> tuple[int, str, str]:
    """Run a script, or what somebody types; return the exit code, the output, the notices."""
    output, errors = io.StringIO(), io.StringIO()
    reader = StreamReader(io.StringIO(script), output) if isinstance(script, str) else script
    engine = engine or ScriptedEngine(*answers)
    code = LineMode(AppOptions(), Settings.load(), reader, output, errors, lambda: engine).run()
    return code, output.getvalue(), errors.getvalue()


def test_a_script_is_answered_and_saved_as_in_the_app() -> None:
    code, output, errors = chat("你好\nMore?\n", "你好！\x1b[31m红", "Yes.")
    assert code == 0
    assert output == "You: 你好\nnano: 你好！红\nYou: More?\nnano: Yes.\n"
    assert "is ready (CPU)." in errors
    (summary,) = Library().list()
    branch = Conversation.open(summary.path).branch()
    assert [(m.role, m.text, m.state) for m in branch] == [
        ("user", "你好", "done"), ("assistant", "你好！\x1b[31m红", "done"),
        ("user", "More?", "done"), ("assistant", "Yes.", "done"),
    ]  # fmt: skip


def test_a_text_file_that_a_line_names_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("milk\n", encoding="utf-8")
    code, _output, _errors = chat('@"my notes.txt" what?\n', "Milk.")
    (summary,) = Library().list()
    conversation = Conversation.open(summary.path)
    text, file = conversation.branch()[0].parts
    assert code == 0
    assert text == Text("@my notes.txt what?")
    assert isinstance(file, Attachment)
    assert conversation.attachments.text(file) == "milk\n", "as it is on the disk"
    assert file.origin == str(tmp_path / "my notes.txt")


def test_a_line_that_names_what_is_no_text_is_not_sent_and_stays(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(range(256)))
    typist = Typist("see @model.bin", "")
    chat(typist, "Never.")
    assert typist.offered[1] == "see @model.bin"
    assert Library().list() == []


def test_a_block_is_one_message() -> None:
    engine = ScriptedEngine("ok")
    chat('"""\nfirst\n\n  second\n"""\n', engine=engine)
    assert [message.text for message in engine.generated[0].messages] == ["first\n\n  second"]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (['"""one line"""'], "one line"),
        (['"""a', 'b"""'], "a\nb"),
        (['"""never closed', "b"], "never closed\nb"),
        (["plain"], "plain"),
    ],
)
def test_blocks(lines: list[str], text: str) -> None:
    assert read_message(Typist(*lines), "") == text


def test_errors_are_lines_and_the_exit_code_of_a_script() -> None:
    code, output, errors = chat("/nonsense\n/quant\n/theme nope\n/regenrate\nstill here\n", "Yes.")
    assert code == 1
    assert "There is no command /nonsense" in errors
    assert "/quant 4|8|none: Change the bits" in errors
    assert "There is no theme 'nope'. There are: ansi," in errors
    assert "Did you mean /regenerate" in errors
    assert output.endswith("nano: Yes.\n")
    assert chat(Typist("/nonsense"))[0] == 0, "a person has seen it"


def test_no_model_fails_the_script_and_keeps_the_message() -> None:
    engine = ScriptedEngine()
    engine.fail = "The folder is empty."
    typist = Typist("hello")
    code, _output, errors = chat(typist, engine=engine)
    assert code == 0
    assert "Error: The folder is empty." in errors
    assert typist.offered == ["", "hello"], "what could not be sent is there to be sent again"
    assert Drafts().get("").text == "hello"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_notice_begins_a_line_of_its_own_on_a_terminal() -> None:
    shown = Terminal()
    message = Message("1", None, "assistant", (), datetime.now(UTC), meta={"model": "tiny"})
    for text, before in (("half an ans", "tiny: half an ans\n"), ("", "tiny: \n")):
        shown.seek(0)
        shown.truncate()
        printer = LinePrinter(shown, shown)
        printer.on_event(AnswerBegun(message, {}))
        if text:
            printer.on_event(AnswerGrew(text))
        printer.notice(verbatim("The connection was cut."), "error")
        printer.on_event(AnswerEnded(message, 1.0, shown=True))
        assert shown.getvalue() == f"{before}Error: The connection was cut.\n"


def test_a_notice_does_not_cut_what_goes_to_a_file() -> None:
    shown, errors = io.StringIO(), io.StringIO()
    message = Message("1", None, "assistant", (), datetime.now(UTC), meta={"model": "tiny"})
    printer = LinePrinter(shown, errors)
    printer.on_event(AnswerBegun(message, {}))
    printer.on_event(AnswerGrew("half "))
    printer.notice(verbatim("The disk is nearly full."), "warning")
    printer.on_event(AnswerGrew("and half"))
    printer.on_event(AnswerEnded(message, 1.0, shown=True))
    assert shown.getvalue() == "tiny: half and half\n"


def test_help_lists_all_commands() -> None:
    output = chat("/help\n")[1]
    for command in COMMANDS:
        assert f"\n{command.usage}: " in output, command.name


def test_themes_keys_and_models_are_listed_with_the_way_to_change_them(home: Path) -> None:
    own = home / "config" / "themes" / "own.toml"
    own.parent.mkdir(parents=True)
    own.write_text('title = "Mine"\nprimary = "#ff0000"\n')
    (own.parent / "torn.toml").write_text("title =")
    code, output, _errors = chat("/theme\n/theme midnight\n/theme\n/keys\n/models\n")
    assert code == 0
    assert "\nglmtui-dark (in use): Ink and jade\n" in output
    assert "\nmidnight (in use): Midnight\n" in output
    assert "\nown: Mine\n/theme NAME uses one" in output
    assert "\nF3: Show or hide the settings: app.settings\n" in output
    assert f"under [keys] in {home / 'config' / 'config.toml'} binds others." in output
    assert "\nnano " in output
    assert output.endswith("/model NAME loads one.\n")
    assert Settings.load()["ui.theme"] == "midnight"


def test_conversations_are_listed_found_and_opened_by_number() -> None:
    chat("about apples\n", "Apples are red.")
    chat("about pears and more\n", "Pears are green.")
    code, output, errors = chat("/search apples\n/load 1\n/history\n/load 7\n/load 2\ngo on\n", "Fine.")
    assert "1. about apples" in output
    assert "- Apples are red." in output
    assert "about apples (2 messages)\nYou: about apples\nnano: Apples are red." in output
    assert "There is no number 7" in errors
    assert code == 1
    opened = [c for c in map(Conversation.open, Library().folder.glob("*.jsonl")) if len(c.branch()) == 4]
    assert len(opened) == 1


def test_regenerate_continue_edit_and_undo_work_on_the_tree() -> None:
    engine = ScriptedEngine("first answer", "second answer")
    _code, output, _errors = chat("question\n/regenerate\n/edit\nother question\n", engine=engine)
    assert "takes the place of your last one" in output
    (summary,) = Library().list()
    conversation = Conversation.open(summary.path)
    assert conversation.branch()[0].text == "other question"
    assert len(conversation.messages) == 5
    typist = Typist("question", "/edit", "better")
    chat(typist, "answer")
    assert typist.offered[2] == "question", "the old version can be edited"


def test_what_goes_to_the_trash_comes_back_with_undo_and_no_key_is_named() -> None:
    output = chat("question\n/delete\n/undo\n", "answer")[1]
    assert "Moved to the trash. /undo brings it back.\nYou: /undo\nThe conversation is back.\n" in output
    assert len(Library().list()) == 1


def test_settings_are_listed_and_changed_and_a_model_is_loaded_anew(home: Path) -> None:
    engine = ScriptedEngine("ok")
    _code, output, errors = chat("/set generation.top_k 3\n/settings\n/quant 4\nhello\n", engine=engine)
    assert "generation.top_k = 3" in output
    assert "ready (CPU, INT4)" in errors
    assert engine.loads[-1].spec.quant == "4"
    assert engine.generated[0].sampling.top_k == 3
    assert "top_k = 3" in (home / "config" / "config.toml").read_text()


def test_a_cut_off_answer_is_told_and_continued() -> None:
    engine = ScriptedEngine("half and half", hold=True)
    submit = engine.submit

    def interrupt(request: Request) -> Stream:  # as Ctrl-C while the answer comes
        stream = submit(request)
        if engine.generated:
            signal.raise_signal(signal.SIGINT)
        return stream

    engine.submit = interrupt  # type: ignore[method-assign]
    code, output, errors = chat(Typist("question"), engine=engine)
    assert code == 0
    assert "Stopped. /continue continues" in errors
    assert "half a" in output
    (summary,) = Library().list()
    last = Conversation.open(summary.path).branch()[-1]
    assert (last.state, last.text) == ("stopped", "half a")


def test_the_apps_draft_is_there_to_be_sent_and_stays_when_a_script_runs() -> None:
    Drafts().set("", Draft("begun in the app"))
    chat("something else\n", "ok")
    assert Drafts().get("").text == "begun in the app"
    typist = Typist("begun in the app, ended here")
    chat(typist, "ok")
    assert typist.offered[0] == "begun in the app"
    assert Drafts().get("").text == ""


def test_lines_are_completed_from_the_same_table() -> None:
    typist = Typist()
    chat(typist)
    assert "/quant " in typist.complete("/q")
    assert list(typist.complete("/quant ")) == ["/quant 4", "/quant 8", "/quant none"]
    assert list(typist.complete("/theme mid")) == ["/theme midnight"]
    assert list(typist.complete("hello")) == []


def test_the_language_follows_at_once() -> None:
    output = chat("/language zh_CN\n你好\n", "好")[1]
    assert "你：你好\n" in output


def test_markdown_is_read_as_lines() -> None:
    table = "## Head\n\n| What | Figure |\n| --- | --- |\n| **Model** | `nano` |\n| a\\|b | 2 |"
    assert unmarked(table) == "Head\n\nModel: nano\na|b: 2"


def test_what_waits_from_the_app_is_told_listed_cancelled_and_sent() -> None:
    conversation = Library().create()
    conversation.append("user", "hi")
    conversation.append("assistant", "hello")
    QueuedMessages().set(
        conversation.id, [QueuedMessage.of("one"), QueuedMessage.of("two\nlines"), QueuedMessage.of("three")]
    )
    engine = ScriptedEngine("1", "2")
    script = (
        f"/queue\n/load {conversation.path}\n/queue\n/queue cancel 2\n/queue cancel 9\n/queue send\n/queue\n"
    )
    code, output, errors = chat(script, engine=engine)
    assert code == 1, "one of the lines made no sense"
    assert "3 messages wait to be sent: /queue" in output
    assert "2. on hold: two lines" in output
    assert output.count("No message waits in this conversation.") == 2
    assert "for example: /queue cancel 1" in errors
    assert [request.messages[-1].text for request in engine.generated] == ["one", "three"]
    assert QueuedMessages().get(conversation.id) == []


def test_the_trash_the_presets_and_the_models_are_listed_and_used_by_name_or_number() -> None:
    conversation = Library().create()
    conversation.append("user", "Old talk")
    lines = ("/delete", "/trash", "/trash 7", "/trash 1", "/preset", "/preset precise", "/models")
    script = "\n".join([f"/load {conversation.path}", *lines, ""])
    _code, output, errors = chat(script)
    assert "1. Old talk (" in output
    assert "/trash and a number brings one back." in output
    assert "There is no number 7 in the list." in errors
    assert "The conversation is back." in output
    assert "balanced (in use): temperature 0.95, top_p 0.7" in output
    assert "The preset precise is in use." in output
    assert "On this machine" in output
    assert "nano" in output.split("On this machine")[1]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "setting", "no_color", "term", "colored"),
    [
        (None, False, "", "xterm", False),
        (None, True, "", "xterm", True),
        (None, True, "1", "xterm", False),
        (None, True, "", "dumb", False),
        ("auto", False, "", "xterm", True),
        ("auto", False, "1", "xterm", False),
        ("never", True, "", "xterm", False),
        ("always", False, "1", "dumb", True),
    ],
)
def test_colour_is_shown_where_it_is_wanted(
    choice: Literal["auto", "always", "never"] | None,
    setting: bool,
    no_color: str,
    term: str,
    colored: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", term)
    output, errors = Tty(), Tty()
    settings = Settings.load()
    settings.set("ui.plain_color", setting)
    reader = Typist("hi", "/nonsense")
    LineMode(AppOptions(color=choice), settings, reader, output, errors, lambda: ScriptedEngine("Yo.")).run()
    assert ("\x1b[1;32mnano:\x1b[0m Yo." in output.getvalue()) is colored
    assert ("\x1b[1;31mError:\x1b[0m" in errors.getvalue()) is colored
    assert colored or "\x1b" not in output.getvalue() + errors.getvalue()


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x.jsonl", "长" * 120 + ".jsonl"])
@pytest.mark.parametrize("command", ["/load", "/save", "/import", "/export md"])
def test_a_path_that_cannot_be_is_an_error_and_the_chat_goes_on(command: str, path: str) -> None:
    code, output, errors = chat(f"question\n{command} {path}\nmore\n", "answer")
    assert path[:80] in errors  # what is longer is cut
    assert output.endswith("You: more\nnano: answer\n")
    assert code == 1
    assert not Path(path).parts[0].startswith("~") or not Path(path).parent.exists()


def test_answers_list_their_sources_and_what_they_do_not_say(tmp_path: Path) -> None:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "rules.md").write_text("员工每年有十五天年假，须提前三天申请。", "utf-8")
    script = f"/docs add {folder}\n年假有几天？\n/docs\nWhat is a black hole?\nIs it answered?\n"
    answer = "每年有十五天年假，须提前三天申请[1]。公司成立于一九九八年，总部位于上海[1]。"
    _code, output, errors = chat(script, answer)
    assert "handbook: 1 document was read" in errors
    assert f"[1] rules.md, line 1, {folder / 'rules.md'}\n" in output
    assert "总部位于上海[?]" not in output, "what was written is written"
    assert "Not in the sources: 公司成立于一九九八年，总部位于上海。" in errors
    assert "handbook: 1 document, 1 passage, in use\n" in output
    assert "Nothing in handbook has to do with this question." in errors


def test_both_answers_are_written_one_below_the_other() -> None:
    code, output, errors = chat("/lora /some/facts\nwhich?\n/compare\n", "tuned answer", "plain answer")
    assert code == 0, errors
    shown = output + errors
    assert shown.index("facts:\n") < shown.rindex("tuned answer") < shown.index("without:")
    assert shown.index("without:") < shown.index("plain answer")


def test_what_can_be_chosen_of_a_training_run_is_listed() -> None:
    code, output, errors = chat("/tune method lora\n/tune\n/tune colour blue\n")
    assert code == 1, "there is no such choice"
    shown = output + errors
    assert "method = lora  (lora adds small products" in shown
    assert "lora_rank = 8" in shown
    assert "pre_seq_len" not in shown.partition("There is no colour")[0]
    assert "/tune start begins." in shown
