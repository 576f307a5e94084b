"""What can be said against a model before the one in memory goes for it. Imports torch only for P-tuning
and LoRA."""

from __future__ import annotations

from dataclasses import dataclass

from glmtui import paths
from glmtui.hub import catalog
from glmtui.hub.integrity import check_complete
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.chat_tokenizer import ChatTokenizer, load_tokenizer
from glmtui.protocol.models import LocalModel


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a `LocalModel` names, found and looked at; nothing of its weights is read yet."""

    spec: LocalModel
    folder: ModelFolder
    """As if it had the prefix of `prefix`, where there is one."""
    prefix: ModelFolder | None = None
    """The P-tuning checkpoint on top."""
    tokenizer: ChatTokenizer | None = None
    """None where it was not asked for."""


def find(spec: LocalModel) -> Prepared:
    """Find the folders that `spec` names.

    Raises:
        UserError: there are none, or they do not belong to each other.
    """
    folder = catalog.resolve(spec.source)
    if spec.lora is not None:
        from glmtui.models.lora import read_config

        read_config(paths.typed(spec.lora))
    if spec.ptuning is None:
        return Prepared(spec, folder)
    from glmtui.models.prefix import with_prefix

    prefix = ModelFolder.open(spec.ptuning)
    return Prepared(spec, with_prefix(folder, prefix), prefix)


def prepare(spec: LocalModel) -> Prepared:
    """Find what `spec` names, look whether its files are complete, and read the tokenizer: for a chat.

    Raises:
        UserError: a file is missing, cut short or of another model; the message names it and says what to do.
    """
    found = find(spec)
    if spec.source is not None:  # the built-in model is as it was installed
        check_complete(found.folder)
    if found.prefix is not None:
        check_complete(found.prefix)
    return Prepared(spec, found.folder, found.prefix, load_tokenizer(found.folder.path))
