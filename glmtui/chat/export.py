"""Conversations in the formats of others: writing them (`export`) and reading them (`import_file`)."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Literal, get_args

from glmtui.chat.conversation import Conversation, Message
from glmtui.chat.files import slug
from glmtui.chat.import_ import FORMAT_NAME, import_file
from glmtui.errors import UserError
from glmtui.i18n import _
from glmtui.protocol import phrases
from glmtui.reasoning import quoted

__all__ = ["FORMATS", "Format", "export", "free_path", "import_file", "known"]

Format = Literal["md", "json", "html", "txt"]
FORMATS: tuple[Format, ...] = get_args(Format)
_OTHER_NAMES: dict[str, Format] = {"": "md", "markdown": "md", "htm": "html", "text": "txt"}


def known(name: str) -> Format:
    """Return the format that a person calls `name`; empty is Markdown.

    Raises:
        UserError: there is no such format; it lists those there are.
    """
    wanted = name.strip().lower().removeprefix(".")
    found = _OTHER_NAMES.get(wanted, wanted)
    if found not in FORMATS:
        raise UserError(
            phrases._("{name} is not a format to export to; there are: {known}.").format(
                name=name, known=phrases.listing(FORMATS)
            )
        )
    return found


def free_path(conversation: Conversation, name: str, folder: Path | None = None) -> Path:
    """Return a path in `folder` (by default where the program was started) that is not taken yet."""
    suffix = known(name)
    stem = slug(conversation.title) or f"{conversation.created:%Y-%m-%d-%H%M%S}"
    folder = folder or Path.cwd()
    path = folder / f"{stem}.{suffix}"
    number = 2
    while path.exists():
        path = folder / f"{stem}-{number}.{suffix}"
        number += 1
    return path


def export(conversation: Conversation, name: str) -> str:
    """Return `conversation` in the format `name`: the branch that is read; in JSON all branches."""
    match known(name):
        case "md":
            return _markdown(conversation)
        case "json":
            return _json(conversation)
        case "html":
            return _html(conversation)
        case _:
            return _text(conversation)


def _markdown(conversation: Conversation) -> str:
    parts = [f"# {_one_line(conversation.title)}"]
    for message in conversation.branch():
        parts += [f"## {_role(message)}", _closed(quoted(message.text).strip("\n"))]
    return "\n\n".join(parts) + "\n"


def _text(conversation: Conversation) -> str:
    parts = [_one_line(conversation.title)]
    parts += [f"{_role(message)}:\n{message.text.strip()}" for message in conversation.branch()]
    return "\n\n".join(parts) + "\n"


def _json(conversation: Conversation) -> str:
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
                "text": message.text,
                "time": message.time.isoformat(timespec="milliseconds"),
                "state": message.state,
                "meta": dict(message.meta),
            }
            for message in conversation.messages.values()
            if not conversation.is_deleted(message.id)
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


_PAGE = """\
<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="glmtui">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.7 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
  max-width: 46rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }}
article {{ border-inline-start: 3px solid #8888; padding-inline-start: 1rem; margin: 1.5rem 0; }}
article.user {{ border-color: #3a7bd5; }}
article > header {{ font-size: .85rem; opacity: .75; }}
pre {{ overflow-x: auto; padding: .75rem; background: #8882; }}
code {{ font-family: ui-monospace, monospace; }}
table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #8888; padding: .25rem .5rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{articles}
</body>
</html>
"""
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
            body=parser.render(quoted(message.text)),
        )
        for message in conversation.branch()
    ]
    return _PAGE.format(title=html.escape(_one_line(conversation.title)), articles="\n".join(articles))


def _role(message: Message) -> str:
    words = {"user": _("User"), "assistant": _("Assistant"), "system": _("System")}
    model = message.meta.get("model")
    return f"{words[message.role]} ({model})" if isinstance(model, str) and model else words[message.role]


def _one_line(title: str) -> str:
    return " ".join(title.split())


def _closed(text: str) -> str:
    """End a code fence that a cut-off answer left open, so that it does not swallow what follows."""
    fence = ""
    for line in text.split("\n"):
        stripped = line.strip()
        if not fence and stripped.startswith(("```", "~~~")):
            fence = stripped[: len(stripped) - len(stripped.lstrip(stripped[0]))]
        elif fence and stripped.startswith(fence) and not stripped.strip(fence[0]):
            fence = ""
    return f"{text}\n{fence}" if fence else text
