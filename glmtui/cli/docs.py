"""``glmtui docs``: collections of documents that answers can rest on."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from glmtui import streams
from glmtui.cli.options import positive, read_settings
from glmtui.i18n import _, tell
from glmtui.text.clean import one_line

if TYPE_CHECKING:
    from glmtui.retrieval.collections import Collection
    from glmtui.retrieval.index import Hit
    from glmtui.session.embedding import EmbeddingLoader


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "Collections of documents on this machine. `glmtui ask --docs NAME` answers from one and shows "
        "where the answer stands. Nothing leaves this machine."
    )
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), title=_("actions"), required=True)
    add = actions.add_parser("add", help=_("read files, folders or web pages into a collection"))
    add.add_argument("paths", nargs="+", metavar="PATH|URL", help=_("a file, a folder or an address"))
    add.add_argument(
        "--name", metavar=_("NAME"), default="", help=_("of the collection (default: as the first)")
    )
    add.add_argument(
        "--follow", action="store_true", help=_("read what changed in the folders before each answer")
    )
    listing = actions.add_parser("list", help=_("the collections and their documents"))
    listing.add_argument("names", nargs="*", metavar=_("NAME"), help=_("only these (default: all)"))
    listing.add_argument("--json", action="store_true", help=_("print JSON"))
    use = actions.add_parser("use", help=_("answer from a collection in all conversations, or from none"))
    use.add_argument("name", metavar=_("NAME"), help=_("a collection, a file or a folder, or none"))
    update = actions.add_parser("update", help=_("read what is new or changed"))
    update.add_argument("name", metavar=_("NAME"))
    remove = actions.add_parser("remove", help=_("forget a collection, or a part of it; the documents stay"))
    remove.add_argument("name", metavar=_("NAME"))
    remove.add_argument("path", nargs="?", metavar="PATH|URL", help=_("only what was added so"))
    search = actions.add_parser("search", help=_("print the passages that fit a question"))
    search.add_argument("name", metavar="NAME|PATH", help=_("a collection, a file or a folder"))
    search.add_argument("question", nargs="+", metavar=_("QUESTION"), help=_("several words need no quotes"))
    search.add_argument(
        "--top", type=positive, default=5, metavar="N", help=_("how many passages (default: 5)")
    )
    search.add_argument("--json", action="store_true", help=_("print JSON"))


def run(args: Namespace) -> int:
    from glmtui.retrieval import collections

    match args.action:
        case "add":
            name = args.name or collections.free_name(args.paths[0])
            before = collections.names()
            for path in args.paths:
                collection = collections.add(name, path, follows=True if args.follow else None)
            failed = _update(collection)
            if failed and collection.name not in before:
                collections.remove(collection.name)
            return failed
        case "list":
            _list(args.names, as_json=args.json)
        case "use":
            _use(args.name)
        case "update":
            return _update(collections.get(args.name))
        case "remove" if args.path:
            return _update(collections.take_out(args.name, args.path))
        case "remove":
            collections.remove(args.name)
            _say(_("The collection {name} is removed; its documents stay.").format(name=args.name))
        case "search":
            _search(args.name, " ".join(args.question), args.top, as_json=args.json)
    return 0


def prepare(name_or_path: str) -> None:
    """Bring what is asked about up to date where it follows its folders, with what that shows.

    Raises:
        UserError: there is no such collection or path.
    """
    from glmtui.retrieval import collections

    collection = collections.find(name_or_path)
    if collection.follows or collection.is_unread:
        _update(collection, quiet=True)


def _update(collection: Collection, *, quiet: bool = False) -> int:
    """Read what changed, with a line that shows how far it is; 1 where nothing at all could be read."""
    from glmtui.retrieval.update import update
    from glmtui.retrieval.web.fetch import fetch_document
    from glmtui.session.documents import MORE_ON_COMMAND_LINE, problems, summary

    with _status() as (status, progress):
        embedding = None if quiet else _embedding()
        retry = not (quiet and collection.kept)  # what has no name is updated in no other way
        outcome = update(collection, progress, fetch=fetch_document, retry=retry, embedding=embedding)
        for problem in problems(outcome, MORE_ON_COMMAND_LINE):
            status.note(tell(problem))
    if not quiet:
        _say(tell(summary(collection.name, outcome)))
    return 1 if outcome.errors and not outcome.read and not outcome.unchanged and not quiet else 0


@contextmanager
def _status() -> Iterator[tuple[streams.StatusLine, Callable[[int, int, str], None]]]:
    """Around work that takes long: yield the line that shows how far it is, and what is told."""
    line = streams.StatusLine(streams.errors())

    def progress(done: int, total: int, name: str) -> None:
        line.show(f"{done} / {total}  {one_line(name)[-60:]}")

    try:
        yield line, progress
    finally:
        line.clear()


def _embedding() -> EmbeddingLoader:
    """Return what loads the model of the settings, if they name one."""
    from glmtui.session.embedding import EMBEDDING, EmbeddingLoader
    from glmtui.settings.settings import Settings

    return EmbeddingLoader(lambda: str(Settings.load()[EMBEDDING] or ""))


def _list(names: Sequence[str], *, as_json: bool) -> None:
    from glmtui.session.documents import collection_lines, listed

    found = listed(names)
    if as_json:
        values = [
            {
                "name": each.collection.name,
                "roots": each.collection.roots,
                "follows": each.collection.follows,
                "error": tell(each.error) or None,
                "files": [
                    {
                        "file": file.origin,
                        "title": file.title,
                        "pages": file.pages,
                        "passages": file.passages,
                        "read_at": file.read_at,
                        "error": tell(file.error) or None,
                        "notes": [tell(note) for note in file.notes],
                    }
                    for file in each.files
                ],
            }
            for each in found
        ]
        streams.output().json({"collections": values}, indent=1)
        return
    for line in collection_lines(found, str(read_settings()["docs.collection"] or "")):
        _say(line)
    if not found:
        _say(_("There are no collections yet: glmtui docs add FOLDER makes one."))


def _use(name: str) -> None:
    from glmtui.chat.conversation import Conversation
    from glmtui.retrieval import collections
    from glmtui.session.preferences import Preferences

    none = name.lower() == "none"
    if not none:
        name = collections.find(name).found_by
    preferences = Preferences(read_settings(), Conversation, lambda _keys: None)
    preferences.set("docs.collection", None if none else name)
    said = _("Answers rest on no documents.") if none else _("Answers rest on {name} now.").format(name=name)
    _say(said)


def _search(name_or_path: str, question: str, top: int, *, as_json: bool) -> None:
    from glmtui.retrieval import collections, provider

    prepare(name_or_path)
    with _status() as (status, progress), collections.find(name_or_path).index() as index:
        hits, problem = provider.search(index, question, top, _embedding(), progress=progress)
        if problem:
            status.note(tell(problem))
    if as_json:
        streams.output().json({"passages": list(map(_described, hits))})
        return
    for number, hit in enumerate(hits, 1):
        about = ", ".join(filter(None, (hit.origin, provider.place(hit.passage))))
        _say(f"[{number}] {about} ({hit.score:.2f})")
        streams.output().write(f"{hit.passage.text}\n\n")
    if not hits:
        _say(_("Nothing found."))


def _say(text: str) -> None:
    streams.output().line(text)


def _described(hit: Hit) -> dict[str, object]:
    passage = hit.passage
    return {
        "file": hit.origin,
        "page": passage.page or None,
        "lines": [passage.first, passage.last] if passage.first else None,
        "heading": passage.heading,
        "text": passage.text,
        "score": hit.score,
    }
