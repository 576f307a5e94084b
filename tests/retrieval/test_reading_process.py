"""What a hostile or damaged document does to its reader costs that document alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import document_files as make
import psutil
import pytest

from glmtui.errors import BadFileError
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.retrieval import reading_process
from glmtui.retrieval.collections import Collection
from glmtui.retrieval.documents import Reading
from glmtui.retrieval.reading_process import ReadingProcess
from glmtui.retrieval.update import update

Pdfium = Callable[[str], None]
MARKED = "open({path!r}, 'w').close()\n"


@pytest.fixture
def pdfium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pdfium:
    """Let PDF files be read by a program of the test's."""
    monkeypatch.syspath_prepend(tmp_path)
    return lambda code: (tmp_path / "pypdfium2.py").write_text(code) and None


def children() -> list[psutil.Process]:
    return psutil.Process().children()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os.abort()", "crashed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed"),
        pytest.param(
            "bytearray(1 << 31)",
            "memory",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="no limit of memory there"),
        ),
        ("raise SystemError('no error set')", "damaged"),
        ("raise KeyboardInterrupt", "crashed"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_what_goes_wrong_costs_one_document(
    folder: Path, collection: Collection, pdfium: Pdfium, code: str, why: str
) -> None:
    pdfium(code)
    (folder / "a.pdf").write_bytes(make.pdf("words"))
    (folder / "b.docx").write_bytes(make.docx("other words"))
    outcome = update(collection)
    assert outcome.read == 1
    ((path, said),) = outcome.errors
    assert Path(path).name == "a.pdf"
    assert why in str(said)
    assert children() == []


def test_one_that_hangs_is_given_up(tmp_path: Path, pdfium: Pdfium, monkeypatch: pytest.MonkeyPatch) -> None:
    pdfium("while True: pass")
    with ReadingProcess(CancelToken()) as process:
        assert [block.text for block in process.read(Reading(BytesIO(make.docx("words")), "a.docx"))] == [
            "words"
        ]
        monkeypatch.setattr(reading_process, "SILENT_SECONDS", 0.2)
        with pytest.raises(BadFileError, match="too long"):
            list(process.read(Reading(BytesIO(b"%PDF"), "a.pdf")))
    assert children() == []


def test_it_is_cancelled_within_a_document(
    tmp_path: Path, folder: Path, collection: Collection, pdfium: Pdfium
) -> None:
    begun, token = tmp_path / "begun", CancelToken()
    pdfium(MARKED.format(path=str(begun)) + "while True: pass")
    (folder / "a.pdf").write_bytes(make.pdf("words"))

    def cancel() -> None:
        while not begun.exists() and not over.wait(0.01):
            pass
        token.cancel()

    over = threading.Event()
    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        with pytest.raises(OperationCancelled):
            update(collection, token=token)
    finally:
        over.set()
        thread.join()
    assert children() == []
    with collection.index() as index:
        assert index.files() == []


def test_one_process_reads_all_and_its_output_is_no_answer(
    tmp_path: Path, folder: Path, collection: Collection, pdfium: Pdfium
) -> None:
    who = tmp_path / "who"
    pdfium(f"import os\nprint('{{}}')\nopen({str(who)!r}, 'a').write(f'{{os.getpid()}} ')\nraise ImportError")
    for name in ("a.pdf", "b.pdf"):
        (folder / name).write_bytes(make.pdf("words"))
    assert len(update(collection).errors) == 2
    first, second = who.read_text().split()
    assert first == second != str(os.getpid())


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from glmtui.retrieval import collections, update
update.update(collections.find(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_it_ends_with_who_asks_also_in_the_middle_of_a_document(
    tmp_path: Path, folder: Path, pdfium: Pdfium
) -> None:
    who = tmp_path / "who"
    pdfium(f"import os\nwith open({str(who)!r} + '~', 'w') as file: file.write(str(os.getpid()))\n"
           f"os.rename({str(who)!r} + '~', {str(who)!r})\nwhile True: pass")  # fmt: skip
    (folder / "a.pdf").write_bytes(make.pdf("words"))
    asking = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), str(tmp_path)])
    try:
        while not who.exists():
            assert asking.poll() is None
            time.sleep(0.01)
        reader = psutil.Process(int(who.read_text()))
    finally:
        asking.kill()
        asking.wait()
    with suppress(psutil.NoSuchProcess):
        reader.wait(30)


def test_short_texts_need_no_process(
    folder: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    (folder / "a.md").write_text("# One\nwords")
    assert update(collection).read == 1
    (folder / "b.docx").write_bytes(make.docx("words"))
    assert len(update(collection).errors) == 1


def test_notes_titles_and_pages_come_through(folder: Path, collection: Collection) -> None:
    pytest.importorskip("pypdfium2")
    (folder / "a.pdf").write_bytes(make.pdf("one", "", "three"))
    assert update(collection).read == 1
    with collection.index() as index:
        (record,) = index.files()
    assert (record.pages, record.passages) == (3, 2)
    assert "2" in str(record.notes[0])
