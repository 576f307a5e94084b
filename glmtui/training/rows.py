"""Training data as people have it: what was asked, what was to be answered, and what was said before.

Read are the published ``{prompt, response, history}`` with any column names, alpaca, ShareGPT, OpenAI's
messages, ChatGLM3's conversations, and glmtui's own; as a JSON array, JSON Lines (also in a file that ends in
``.json``, as published) or CSV. A conversation gives one row for each of its answers, with all that came
before it, as the published ``train_chat.sh`` wants it. What cannot be used costs itself alone, and is named.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from glmtui.chat.conversation import Conversation
from glmtui.chat.import_ import FORMAT_NAME, conversation_of_export
from glmtui.chat.json_stream import JsonStream
from glmtui.errors import BadFileError, NotFoundError, UserError
from glmtui.protocol.messages import Attachment, Image
from glmtui.protocol.phrases import Listing, Phrase, _, listing, sentences, verbatim
from glmtui.regular_files import read_regular, reason
from glmtui.text import json_values
from glmtui.text.encodings import decode
from glmtui.text.quoting import quoted

MOST_BYTES = 1 << 30
"""Of one file: all rows are kept in memory."""
LONGEST_HISTORY = 1000
MOST_PAIRS = 20_000_000
"""Of one history, and of all together: each answer of a conversation has all that was said before it."""
SUFFIXES = (".json", ".jsonl", ".csv")
_SEPARATORS = ",\t;"
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
WHICH_COLUMNS = _(
    "Say which columns have the question and the answer: --prompt-column and --response-column (in /tune: "
    "prompt column and response column)."
)
_NAMED = 8
"""Columns of a row that are named."""
_FIRST = 20
"""Lines that show whether each is a value, of which some may be wrong."""
_NO_TEXT = "\uffff"
"""Stands for a line that is no text. It is no character, and Python 3.10's reader of CSV, which gives up at
NUL, takes it."""
_UNLEARNED = "unlearned"
"""The role of an answer that only is there to be read."""

Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""Questions with their answers, oldest first."""


@dataclass(frozen=True, slots=True)
class Row:
    """One answer to learn."""

    prompt: str
    """The question."""
    response: str
    history: Pairs | None = None
    """What was said before; None where the file has no place for it, which the published code writes
    otherwise than that nothing was said."""
    system: str = ""
    origin: str = ""
    """Where it stands: ``train.jsonl:17``. Rows of one conversation stand at the same place."""


class Skipped(NamedTuple):
    """Something that is not learned."""

    origin: str
    reason: Phrase


class Columns(NamedTuple):
    """What the columns are called that have a row's parts."""

    prompt: str = "prompt"
    response: str = "response"
    history: str = "history"


COMMON: tuple[Columns, ...] = (Columns(), Columns("content", "summary"), Columns("question", "answer"))
"""Looked for where none are named; the second is AdvertiseGen's."""


@dataclass
class Rows:
    """What was read."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    pairs: int = 0
    """Of all histories."""
    unknown_columns: bool = False
    """Whether some were skipped that have columns of other names."""
    with_history: bool = False
    """Whether one has the column of what was said before."""


class _SkipError(Exception):
    def __init__(self, phrase: Phrase) -> None:
        super().__init__(str(phrase))
        self.phrase = phrase


class _UnknownColumnsError(_SkipError):
    """A person can say which columns they are."""


def read_rows(paths: Iterable[Path], columns: Columns | None = None) -> Rows:
    """Read the files, and those in folders (not in folders below).

    Args:
        columns: what the columns are called; None looks for `COMMON` ones.

    Raises:
        NotFoundError: a path is not there, or a folder has no such file.
        BadFileError: nothing at all could be read; it says why of the first that was skipped. Or the column
            that was named for what was said before is in no row.
    """
    found = Rows()
    for path in chain.from_iterable(map(_files, paths)):
        _Reader(path, columns, found).read()
    if not found.rows:
        raise BadFileError(_nothing(found))
    if columns is not None and columns.history != Columns().history and not found.with_history:
        said = _("No row of the data has the column {name}, which was given for what was said before.")
        raise BadFileError(said.format(name=quoted(columns.history)))
    return found


def _files(path: Path) -> Sequence[Path]:
    if not path.exists():
        raise NotFoundError(_("There is no {path}.").format(path=path))
    if not path.is_dir():
        return (path,)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        said = _("{path} has no file that ends in {suffixes}.")
        raise NotFoundError(said.format(path=path, suffixes=listing(SUFFIXES)))
    return files


def _nothing(found: Rows) -> Phrase:
    if not found.skipped:
        return _("The data has no rows.")
    first = found.skipped[0]
    said = _("The data has no rows that can be learned. The first that was skipped is {place}: {reason}.")
    said = said.format(place=first.origin, reason=first.reason)
    return sentences(said, WHICH_COLUMNS) if found.unknown_columns else said


def _names(value: Mapping[str, Any]) -> Listing | Phrase:
    """Return what a row has, as far as a person wants to read it."""
    return listing(map(quoted, list(value)[:_NAMED])) if value else _("nothing")


def _decoded(data: bytes) -> str | None:
    """Return a file's text, with `_NO_TEXT` for lines that are none; None where that is half of them."""
    if (text := decode(data)) is not None:
        return text
    lines = [decode(line) for line in data.split(b"\n")]
    if 2 * lines.count(None) >= len(lines):
        return None
    return "\n".join(_NO_TEXT if line is None else line for line in lines)


class _Reader:
    """One file."""

    def __init__(self, path: Path, columns: Columns | None, found: Rows) -> None:
        self._path = path
        self._columns = columns
        self._found = found

    def read(self) -> None:
        try:
            text = _decoded(read_regular(self._path, MOST_BYTES))
        except OSError as error:
            return self._skip("", _("it cannot be read: {error}").format(error=reason(error)))
        if text is None:
            return self._skip("", _("it is not a text file"))
        if self._path.suffix.lower() == ".csv":
            return self._read_csv(text)
        head = [json_value(line) for line in text.split("\n", _FIRST)[:_FIRST]]
        if isinstance(head[0], dict) and head[0].get("type") == "conversation":
            return self._read_conversation()
        if text.lstrip().startswith("[") or not any(isinstance(value, dict) for value in head):
            return self._read_json(text)
        for number, line in enumerate(text.split("\n"), 1):
            if line == _NO_TEXT:
                self._skip(str(number), _("it is not text"))
            elif line.strip():
                self._take(str(number), json_value(line))
        return None

    def _read_json(self, text: str) -> None:
        """Read one value, or an array of them. Behind what is no JSON nothing can be read any more."""
        documents = JsonStream(io.BytesIO(text.encode("utf-8", "replace")).read, lambda _read: None)
        number = 0
        try:
            for document in documents.documents():
                for value in document if isinstance(document, Iterator) else (document,):
                    number += 1
                    self._take(str(number), value)
        except ValueError as error:
            self._skip(str(number + 1), _("it is no JSON: {error}").format(error=verbatim(str(error))))

    def _read_csv(self, text: str) -> None:
        head = text.partition("\n")[0]
        separator = max(_SEPARATORS, key=head.count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        names: list[str] | None = None
        while True:
            try:
                cells = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                self._skip(str(lines.line_num), _("it is no CSV: {error}").format(error=verbatim(str(error))))
                continue
            if names is None:
                names = [name.strip() for name in cells]
            elif any(_NO_TEXT in cell for cell in cells):
                self._skip(str(lines.line_num), _("it is not text"))
            elif any(cells[len(names) :]):  # a separator without quotes around it: the text would end there
                self._skip(str(lines.line_num), _("it has more fields than the first line"))
            elif any(cells):
                self._take(str(lines.line_num), dict(zip_longest(names, cells[: len(names)], fillvalue="")))

    def _read_conversation(self) -> None:
        try:
            conversation = Conversation.open(self._path)
        except UserError as error:
            return self._skip("", error.phrase)
        return self._guard("", lambda: self._spoken("", _own_messages(conversation)))

    # --- one record ---

    def _take(self, place: str, value: object) -> None:
        self._guard(place, lambda: self._record(place, value))

    def _guard(self, place: str, work: Callable[[], None]) -> None:
        try:
            work()
        except _SkipError as error:
            self._found.unknown_columns |= isinstance(error, _UnknownColumnsError)
            self._skip(place, error.phrase)
        except UserError as error:
            self._skip(place, error.phrase)

    def _record(self, place: str, value: object) -> None:
        if not isinstance(value, dict):
            raise _SkipError(_("it is no JSON object"))
        if value.get("format") == FORMAT_NAME:
            self._spoken(place, _own_messages(conversation_of_export(value)))
        elif (columns := self._columns_of(value)) is not None:
            self._found.with_history |= columns.history in value
            self._add(
                place,
                _text(value, columns.prompt),
                _text(value, columns.response),
                _history(value[columns.history] or []) if columns.history in value else None,
                _text(value, "system", needed=False),
            )
        elif self._columns is not None:
            missing = [name for name in self._columns[:2] if name not in value]
            lacks = _("it has no column {names}, but {found}")
            raise _UnknownColumnsError(lacks.format(names=listing(map(quoted, missing)), found=_names(value)))
        elif "instruction" in value and "output" in value:
            asked = (_text(value, "instruction"), _text(value, "input", needed=False))
            self._add(
                place,
                "\n".join(filter(None, asked)),
                _text(value, "output"),
                _history(value.get("history") or []),
                _text(value, "system", needed=False),
            )
        elif isinstance(turns := value.get("conversations"), list):
            system = _text(value, "system", needed=False)
            is_chatglm = any(isinstance(turn, dict) and "role" in turn for turn in turns)
            spoken = _said(turns, *(("role", "content") if is_chatglm else ("from", "value")))
            self._spoken(place, chain([("system", system)] if system else (), spoken))
        elif isinstance(turns := value.get("messages"), list):
            self._spoken(place, _said(turns, "role", "content"))
        else:
            lacks = _("it is in no known format; it has: {names}")
            raise _UnknownColumnsError(lacks.format(names=_names(value)))

    def _columns_of(self, value: Mapping[str, Any]) -> Columns | None:
        known = COMMON if self._columns is None else (self._columns,)
        return next((each for each in known if each.prompt in value and each.response in value), None)

    def _spoken(self, place: str, messages: Iterable[tuple[str, str]]) -> None:
        """Add a row for each answer of a conversation."""
        systems: list[str] = []
        asked: list[str] = []
        history: list[tuple[str, str]] = []
        learned = False
        for role, text in messages:
            match role:
                case "system":
                    systems.append(text)
                case "user":
                    asked.append(text)
                case _ if not asked:
                    raise _SkipError(_("an answer has no question before it"))
                case _:
                    question = "\n".join(asked)
                    if role != _UNLEARNED:
                        learned = True
                        self._add(place, question, text, tuple(history), "\n".join(systems))
                    history.append((question, text))
                    asked.clear()
        if not learned:
            raise _SkipError(_("it has no answer"))

    def _add(self, place: str, prompt: str, response: str, history: Pairs | None, system: str) -> None:
        if not prompt.strip():
            raise _SkipError(_("the question is empty"))
        if not response.strip():
            raise _SkipError(_("the answer is empty"))
        before = len(history or ())
        if before > LONGEST_HISTORY or self._found.pairs + before > MOST_PAIRS:
            raise _SkipError(_("too much was said before it: split long conversations"))
        self._found.pairs += before
        self._found.rows.append(Row(prompt, response, history, system, self._origin(place)))

    def _skip(self, place: str, why: Phrase) -> None:
        self._found.skipped.append(Skipped(self._origin(place), why))

    def _origin(self, place: str) -> str:
        return f"{self._path.name}:{place}" if place else self._path.name


def json_value(line: str) -> Any:
    """Return the value of a line of JSON, None where it is none."""
    try:
        return json_values.loads(line)
    except ValueError:
        return None


def _text(value: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    found = value.get(name)
    if found is None and not needed:
        return ""
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str):
        raise _SkipError(_("{name} is no text").format(name=verbatim(name)))
    return found


def _history(value: object) -> Pairs:
    """Read ``[[question, answer], …]``, which a CSV has as JSON; empty where nothing was said."""
    if isinstance(value, str):
        value = json_value(value) if value.strip() else []
    if not isinstance(value, list):
        raise _no_pairs()
    history = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise _no_pairs()
        history.append((pair[0], pair[1]))
    return tuple(history)


def _no_pairs() -> _SkipError:
    return _SkipError(_("the history is no list of pairs of a question and its answer"))


def _said(turns: Sequence[Any], role_key: str, text_key: str) -> Iterator[tuple[str, str]]:
    """Read ``{role, text}`` in whatever words a format has for them."""
    for turn in turns:
        if not isinstance(turn, dict):
            raise _SkipError(_("a message of it is no JSON object"))
        said = str(turn.get(role_key))
        if said not in _ROLES:
            raise _SkipError(_("it has a message of the role {role}").format(role=verbatim(said[:40])))
        text = turn.get(text_key)
        if isinstance(text, list):  # of parts, as OpenAI has it
            parts = [part if isinstance(part, dict) else {} for part in text]
            if any(part.get("type") != "text" for part in parts):
                raise _SkipError(_("a message of it is more than text"))
            text = "\n".join(_text(part, "text") for part in parts)
        if not isinstance(text, str):
            raise _SkipError(_("a message of it has no text"))
        is_learned = turn.get("weight") != 0 or _ROLES[said] != "assistant"  # so OpenAI marks what is not
        yield _ROLES[said] if is_learned else _UNLEARNED, text


def _own_messages(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Yield what was said in the open branch of a conversation, up to an answer that was not ended."""
    for message in conversation.branch():
        if message.role == "tool":
            raise _SkipError(_("it has a message of the role {role}").format(role=message.role))
        if any(isinstance(part, Image | Attachment) for part in message.parts):
            raise _SkipError(_("a message of it is more than text"))
        if message.role == "assistant" and (message.state != "done" or not message.text.strip()):
            return
        yield message.role, message.text
