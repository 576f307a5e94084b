"""What can be said against a model before the one in memory goes for it. Imports torch only for P-tuning."""

from __future__ import annotations

from glmtui.hub import catalog
from glmtui.hub.integrity import check_whole
from glmtui.hub.model_dir import TOKENIZER_FILES, ModelFolder
from glmtui.models.chat_tokenizer import load_tokenizer
from glmtui.protocol.requests import Load


def check(request: Load) -> None:
    """Look whether the model can be found, is whole, and has a tokenizer and a prefix that belong to it.

    Raises:
        UserError: it has not; the message names the file and says what to do.
    """
    if request.source is not None:
        folder = catalog.resolve(request.source)
        check_whole(folder)
        if folder.family in TOKENIZER_FILES:
            load_tokenizer(folder.path)
    if request.ptuning is not None:
        from glmtui.models.prefix import with_prefix

        prefix = ModelFolder.open(request.ptuning)
        check_whole(prefix)
        with_prefix(catalog.resolve(request.source), prefix)
