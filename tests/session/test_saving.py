"""What cannot be written is said once, kept, and written as soon as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmtui.chat import files
from glmtui.chat.conversation import Conversation
from glmtui.errors import StorageError
from glmtui.protocol.phrases import Sayable
from glmtui.session.events import Kind
from glmtui.session.saving import Saving


class Told:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.saving = Saving(self._notice)

    def _notice(self, _text: Sayable, kind: Kind) -> None:
        self.kinds.append(kind)

    def fail(self, why: str) -> None:
        with self.saving():
            raise StorageError(why)


def test_a_fault_is_said_once_until_another_one_or_a_write_that_works() -> None:
    told = Told()
    told.fail("full")
    told.fail("full")
    assert told.kinds == ["error"]
    assert told.saving.works("draft")
    assert not told.saving.works("conversation")
    told.fail("gone")
    with told.saving():
        pass
    assert told.saving.works("conversation")
    told.fail("gone")
    assert told.kinds == ["error"] * 3


def test_what_was_left_is_written_too_and_then_all_is_said_to_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, left, opened = Told(), *(Conversation(path=tmp_path / f"{n}.jsonl") for n in range(2))

    def refuse(*_given: object, **_named: object) -> None:
        raise StorageError("full")

    with monkeypatch.context() as full:
        full.setattr(files.ConversationFile, "create", refuse)
        for conversation in (left, opened):
            with told.saving():
                conversation.append("user", "hi")
        told.saving.leave(left)
        told.saving.again(opened)
        assert told.saving.left == [left]
    told.saving.again(opened)
    assert told.saving.left == []
    assert told.kinds == ["error", "info"]
    assert all(Conversation.open(tmp_path / f"{n}.jsonl").branch()[0].text == "hi" for n in range(2))
