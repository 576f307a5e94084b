"""The message that is being written: what goes with its text, and what it is going to be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glmtui.chat.conversation import new_message_id
from glmtui.chat.state_log import Draft
from glmtui.protocol.messages import Image, Part
from glmtui.session import pictures
from glmtui.session.attached_file import named_parts


class WrittenMessage:
    """What a person has in hand. Its text is theirs: here it is known as it stood at the last pause."""

    def __init__(self) -> None:
        self.id = new_message_id()
        """That it has in the conversation when it is sent."""
        self.text = ""
        """With the files that it names in full; empty where it is a command."""
        self.names_files = False
        self.kept: tuple[Part, ...] = ()
        """What belongs to it besides its text, and the text that names that."""
        self.place: int | None = None
        """Where in the queue it was taken from."""
        self.query = ""
        """What the web was going to be asked for it, where it was queued."""
        self.reading = pictures.NamedPictures()
        """Those of its pictures that are not here yet."""

    def become(self, kept: tuple[Part, ...] = (), place: int | None = None, query: str = "") -> None:
        """Begin another message with what belongs to it; what is still read belongs to none."""
        self.kept, self.place, self.query = kept, place, query
        self.reading.forget()

    def stand_alone(self) -> None:
        """Be a message of its own, no longer another one's version; what its text names still goes along."""
        self.kept, self.place = tuple(named_parts(self.kept)), None

    @property
    def is_plain(self) -> bool:
        """Whether, sent as it stands, it is its text and nothing else."""
        return not (self.kept or self.names_files or self.query or "@" in self.text)

    def draft(self, text: str, kept: tuple[Part, ...], edits: str | None) -> Draft:
        """Return what is remembered of it: `text`, what belongs to that, and whose new version it is."""
        return Draft(text, kept, edits, self.place, self.id, self.query)

    # --- its pictures ---

    @property
    def picture_names(self) -> Sequence[str]:
        """What those are called that are here."""
        return pictures.names_in(self.kept)

    def has(self, path: Path) -> bool:
        """Whether the picture in a file goes along as it is, under the file's name."""
        return pictures.name_of(str(path)) in self.picture_names and pictures.is_same(path, self.kept)

    def free_name(self, source: str) -> str:
        """Return what the picture of a path or an address is called here, where others may have its name."""
        return pictures.free_name(pictures.name_of(source), self.picture_names, self.reading.names)

    def add(self, image: Image, *, named: bool) -> None:
        """Let a picture go along; where it is `named`, only while its name stands in the text."""
        self.kept = pictures.with_picture(self.kept, image, named=named)

    def drop_pictures(self) -> Sequence[str]:
        """Let none go along; return what they were called."""
        names = self.picture_names
        self.kept = tuple(part for part in self.kept if not isinstance(part, Image))
        self.reading.forget()
        return names
