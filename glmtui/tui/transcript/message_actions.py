"""What can be done with one message of the transcript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.i18n import _
from glmtui.reasoning import answer_of

if TYPE_CHECKING:
    from glmtui.tui.app import GlmTui


async def perform(app: GlmTui, message_id: str, action: str, text: str) -> None:
    """Do `action` with the message; `text` is what to copy or quote."""
    controller = app.controller
    conversation = controller.conversation
    if conversation.is_deleted(message_id):  # a second press of the key came before the first was done
        return
    match action:
        case "copy" | "copy_code":
            app.copy(text or answer_of(conversation.messages[message_id].text))
        case "quote":
            app.chat.composer.quote(text or answer_of(conversation.messages[message_id].text))
        case "edit":
            branch = conversation.branch()
            ids = [message.id for message in branch]
            before = branch[: ids.index(message_id) + 1] if message_id in ids else []
            questions = [message.id for message in before if message.role == "user"]
            if questions:  # of an answer: what it answers
                app.chat.edit(questions[-1])
        case "regenerate":
            await controller.regenerate(message_id)
        case "continue":
            await controller.continue_answer()
        case "delete":
            await controller.delete(message_id)
            app.say(_("Deleted, with what followed. /undo brings it back."))
        case "previous_branch" | "next_branch":
            step = 1 if action == "next_branch" else -1
            versions = [message.id for message in conversation.siblings(message_id)]
            at = versions.index(message_id) + step
            if 0 <= at < len(versions):
                await controller.select(versions[at])
            else:
                app.say(_("There is no other version in this direction."))
        case _:
            raise ValueError(action)
