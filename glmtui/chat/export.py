"""Conversations in other formats: writing them (`export`) and reading them (`import_file`)."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from string import Template
from typing import Literal, NamedTuple, get_args

from glmtui.chat.conversation import Conversation, Message
from glmtui.chat.files import slug
from glmtui.chat.import_ import FORMAT_NAME, import_file
from glmtui.chat.parts import encode_parts
from glmtui.errors import BadValueError
from glmtui.i18n import _
from glmtui.paths import free
from glmtui.protocol import phrases
from glmtui.protocol.messages import Attachment, Image, Source, Text, Thought, ToolCall, ToolResult
from glmtui.text.clean import clean, one_line

__all__ = ["FORMATS", "Format", "export", "free_path", "import_file", "known"]

Format = Literal["md", "json", "html", "txt"]
FORMATS: tuple[Format, ...] = get_args(Format)
_EMBEDDED = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Images that a page shows; others, which may hold scripts, it names."""
_OPENS = re.compile(r"`{3}|~{3}|<")
_TAG = re.compile(r"^( {0,3})<", re.MULTILINE)
_ESCAPED = re.compile(r"[\\`*_\[\]<>#]")
_OTHER_NAMES: dict[str, Format] = {"": "md", "markdown": "md", "htm": "html", "text": "txt"}


def known(name: str) -> Format:
    """Return the format that a person calls `name`; empty is Markdown.

    Raises:
        UserError: there is no such format; it lists those there are.
    """
    given = name.strip().lower().removeprefix(".")
    found = _OTHER_NAMES.get(given, given)
    if found not in FORMATS:
        raise BadValueError(
            phrases._("{name} is not a format to export to; there are: {known}.").format(
                name=name, known=phrases.listing(FORMATS)
            )
        )
    return found


def free_path(conversation: Conversation, name: str, folder: Path | None = None) -> Path:
    """Return a path in `folder` (by default where the program was started) that is not taken yet."""
    suffix = known(name)
    stem = slug(conversation.title) or f"{conversation.created:%Y-%m-%d-%H%M%S}"
    return free((folder or Path.cwd()) / f"{stem}.{suffix}")


def export(conversation: Conversation, name: str) -> str:
    """Return `conversation` in the format `name`: the branch that is read; in JSON all branches."""
    writers = {"md": _markdown, "json": _json, "html": _html, "txt": _text}
    return writers[known(name)](conversation)


def _markdown(conversation: Conversation) -> str:
    sections = [f"# {one_line(conversation.title)}"]
    for message in conversation.branch():
        sections.append(f"## {_role(message)}")
        sections += [
            _closed(block.text.strip("\n")) if block.markdown else _markdown_block(conversation, block)
            for block in _blocks(conversation, message)
        ] or [""]
    return "\n\n".join(sections) + "\n"


def _markdown_block(conversation: Conversation, block: _Block) -> str:
    if address := _data_uri(conversation, block):
        assert block.image is not None
        name = _ESCAPED.sub(r"\\\g<0>", one_line(block.image.name) or block.image.media_type)
        return f"![{name}]({address})"
    escaped = _ESCAPED.sub(r"\\\g<0>", block.title)
    title = f"**{escaped}**"
    if not block.text:
        return title
    longest = max(map(len, re.findall("`+", block.text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{title}\n\n{fence}\n{block.text.rstrip(chr(10))}\n{fence}"


def _text(conversation: Conversation) -> str:
    sections = [one_line(conversation.title)]
    for message in conversation.branch():
        blocks = _blocks(conversation, message)
        texts = [f"{block.title}\n{block.text}" if block.title else block.text for block in blocks]
        sections.append(f"{_role(message)}:\n" + "\n\n".join(text.strip() for text in texts))
    return "\n\n".join(sections) + "\n"


def _json(conversation: Conversation) -> str:
    messages = [m for m in conversation.messages.values() if not conversation.is_deleted(m.id)]
    blobs = {sha256: conversation.attachments.find(sha256) for sha256 in sorted(conversation.digests())}
    document = {
        "format": FORMAT_NAME,
        "version": 1,
        "title": conversation.title,
        "created": conversation.created.isoformat(timespec="seconds"),
        "settings": dict(conversation.settings),
        "current": conversation.leaf,
        "messages": [
            {
                "id": message.id,
                "parent": message.parent,
                "role": message.role,
                **encode_parts(message.role, message.parts, message.unread),
                "time": message.time.isoformat(timespec="milliseconds"),
                "state": message.state,
                "meta": dict(message.meta),
            }
            for message in messages
        ],
    }
    if blobs:
        document["attachments"] = {
            sha256: base64.b64encode(data).decode() for sha256, data in blobs.items() if data is not None
        }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


class _Block(NamedTuple):
    """A part as it is exported: with a title and its content as it is, or as Markdown without a title."""

    text: str
    title: str = ""
    markdown: bool = False
    image: Image | None = None


def _blocks(conversation: Conversation, message: Message) -> list[_Block]:
    """Return what is exported of a message, in its order, without what would steer a terminal."""
    blocks: list[_Block] = []
    for part in message.parts:
        match part:
            case Text(text):
                blocks.append(_Block(text, markdown=True))
            case Thought(text):
                quoted = "\n".join(f"> {line}".rstrip() for line in clean(text).split("\n"))
                blocks.append(_Block(quoted, markdown=True))
            case Attachment():
                data = conversation.attachments.find(part.sha256)
                name = part.name if data is not None else _("{name} (missing)").format(name=part.name)
                blocks.append(_Block((data or b"").decode("utf-8", "replace"), name))
            case Image():
                name = part.name.strip() or part.media_type
                blocks.append(_Block("", _("Image: {name}").format(name=name), image=part))
            case Source():
                about = ", ".join(filter(None, (part.title, part.place, part.origin)))
                blocks.append(_Block(part.text, f"[{part.number}] {about}"))
            case ToolCall():
                blocks.append(_Block(part.arguments, _("Call of {name}").format(name=part.name)))
            case ToolResult():
                name = part.name or part.call_id
                blocks.append(_Block(part.text, _("Result of {name}").format(name=name)))
    return [block._replace(text=clean(block.text), title=one_line(block.title)) for block in blocks]


_ARTICLE = """\
<article class="{role}">
<header>{who} · <time datetime="{iso}">{time:%Y-%m-%d %H:%M}</time></header>
{body}</article>"""


def _html(conversation: Conversation) -> str:
    """One page that loads nothing: text is escaped, Markdown rendered, links go nowhere by script."""
    from glmtui.text.markdown import make_parser  # the same reading as on the screen

    parser = make_parser()
    parser.disable("image")  # a page that is opened must not call anywhere
    articles = [
        _ARTICLE.format(
            role=message.role,
            who=html.escape(_role(message)),
            iso=message.time.isoformat(timespec="seconds"),
            time=message.time,
            body="".join(
                parser.render(block.text) if block.markdown else _html_block(conversation, block)
                for block in _blocks(conversation, message)
            ),
        )
        for message in conversation.branch()
    ]
    page = Template(Path(__file__).with_name("export.html").read_text(encoding="utf-8"))
    title = html.escape(one_line(conversation.title))
    return page.substitute(title=title, articles="\n".join(articles))


def _html_block(conversation: Conversation, block: _Block) -> str:
    title = html.escape(block.title)
    if block.image is None:
        return f"<details><summary>{title}</summary><pre>{html.escape(block.text)}</pre></details>\n"
    if not (address := _data_uri(conversation, block)):
        return f"<p>{title}</p>\n"
    return f'<p><img alt="{title}" src="{address}"></p>\n'


def _data_uri(conversation: Conversation, block: _Block) -> str:
    """Return the address of a picture that holds its file; empty where it is none that others show."""
    if block.image is None or block.image.media_type not in _EMBEDDED:
        return ""
    data = conversation.attachments.find(block.image.sha256)
    return f"data:{block.image.media_type};base64,{base64.b64encode(data).decode()}" if data else ""


def _role(message: Message) -> str:
    names = {"user": _("User"), "assistant": _("Assistant"), "system": _("System"), "tool": _("Tool")}
    model = message.meta.get("model")
    return one_line(
        f"{names[message.role]} ({model})" if model and isinstance(model, str) else names[message.role]
    )


def _closed(text: str) -> str:
    """Return Markdown that does not swallow what follows: a code fence that a cut-off answer left open ends,
    and the tag or comment that would go on is text.
    """
    from markdown_it import MarkdownIt  # what others read the file with

    if not _OPENS.search(text):
        return text
    last = MarkdownIt("commonmark").parse(f"{text}\n\n# ")[-1]
    if last.type == "fence":
        return f"{text}\n{last.markup}"
    if last.type == "html_block" and last.map:
        lines = text.split("\n")
        rest = _TAG.sub(r"\1\\<", "\n".join(lines[last.map[0] :]))
        return _closed("\n".join([*lines[: last.map[0]], rest]))
    return text
