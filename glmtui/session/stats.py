"""What ``/stats`` shows, and what a model is called for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.i18n import _, ngettext
from glmtui.protocol.messages import Source
from glmtui.text.clean import one_line
from glmtui.text.units import parameters, size

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation
    from glmtui.chat.tree import Message
    from glmtui.protocol.models import ModelInfo
    from glmtui.session.events import SessionState


def model_title(info: ModelInfo) -> str:
    """Return a model's name for people."""
    return _("nano (built in)") if info.builtin else info.name


def source_lines(message: Message) -> list[str]:
    """Return the numbered list of what an answer rests on."""
    return [
        f"[{part.number}] " + ", ".join(filter(None, map(one_line, (part.title, part.place, part.origin))))
        for part in message.parts
        if isinstance(part, Source)
    ]


def unsupported(message: Message) -> list[str]:
    """Return the statements of an answer that are marked because no source supports them."""
    if not any(isinstance(part, Source) for part in message.parts):
        return []
    from glmtui.retrieval.citations import UNSUPPORTED, marked_statements

    return marked_statements(message.text) if UNSUPPORTED in message.text else []


def passages(given: int, found: int) -> str:
    """Say how many passages an answer was given, of those that were found."""
    return ngettext("{given} of {n} passage", "{given} of {n} passages", found).format(
        given=given, n=f"{found:,}"
    )


def markdown(status: SessionState, conversation: Conversation) -> str:
    """Return a table of what is known about the model, the memory and the conversation."""
    import psutil

    rows: list[tuple[str, str]] = []
    if (info := status.info) and info.server:
        rows.append((_("Model"), model_title(info)))
        rows.append((_("Server"), f"`{info.server}`"))
    elif info := status.info:
        rows += [
            (_("Model"), f"{model_title(info)} ({info.architecture}, {parameters(info.parameters)})"),
            (_("Device"), f"{info.device_name} ({info.device}, {info.dtype})"),
            (_("Quantisation"), _("none") if info.quant == "none" else f"INT{info.quant}"),
            (_("Weights in memory"), size(info.memory_bytes)),
        ]
    else:
        rows.append((_("Model"), _("none")))
    rows.append((_("Memory of this program"), size(psutil.Process().memory_info().rss)))
    rows.append((_("Memory free"), size(psutil.virtual_memory().available)))
    if status.limit:
        rows.append(
            (
                _("Context"),
                _("{used} of {limit} tokens").format(used=f"{status.used:,}", limit=f"{status.limit:,}"),
            )
        )
    if status.tokens_per_second:
        rows.append((_("Speed"), _("{rate:.1f} tokens/s").format(rate=status.tokens_per_second)))
    here, kept = len(conversation.branch()), len(conversation.messages)
    messages = _("{here}, with other versions {all}").format(here=f"{here:,}", all=f"{kept:,}")
    rows.append((_("Messages"), messages if kept > here else f"{here:,}"))
    if conversation.path:
        rows.append((_("File"), f"`{conversation.path}`"))
    head = f"| {_('What')} | {_('Figure')} |\n| --- | --- |"
    return head + "\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)
