"""What is nice to find again at the next start: the open conversation, drafts, sent prompts."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from glmtui import paths
from glmtui.atomic import write_atomically


class AppState:
    """A small JSON file in the state directory. Reading and writing never fail: it is only a convenience."""

    MOST_PROMPTS = 500
    MOST_DRAFTS = 100

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.state_dir() / "app.json"
        self.conversation: str | None = None
        """Path of the conversation that was open."""
        self.prompts: list[str] = []
        """What was sent, oldest first."""
        self.drafts: dict[str, str] = {}
        """What was written and not sent, by conversation id; "" is the new one."""
        self._written = self._document()

    @classmethod
    def load(cls, path: Path | None = None) -> AppState:
        """Read the file; anything wrong in it is as if it were not there."""
        state = cls(path)
        try:
            data = json.loads(state.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return state
        if not isinstance(data, dict):
            return state
        if isinstance(conversation := data.get("conversation"), str):
            state.conversation = conversation
        if isinstance(prompts := data.get("prompts"), list):
            state.prompts = [prompt for prompt in prompts if isinstance(prompt, str)]
        if isinstance(drafts := data.get("drafts"), dict):
            state.drafts = {key: text for key, text in drafts.items() if isinstance(text, str)}
        state._written = state._document()
        return state

    def save(self) -> None:
        """Write the file if something changed."""
        document = self._document()
        if document == self._written:
            return
        self._written = document
        with suppress(OSError):
            paths.make_private(self.path.parent)
            write_atomically(self.path, json.dumps(document, ensure_ascii=False, indent=1).encode())

    def _document(self) -> dict[str, Any]:
        drafts = {key: text for key, text in self.drafts.items() if text.strip()}
        return {
            "conversation": self.conversation,
            "prompts": self.prompts[-self.MOST_PROMPTS :],
            "drafts": dict(list(drafts.items())[-self.MOST_DRAFTS :]),
        }
