"""Listing, downloading and removing models next to the model in memory, by requests and events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from golden_data import GOLDEN
from hub_server import HubServer

from glmtui.engine.chat_model import ChatModel
from glmtui.engine.local import LocalEngine
from glmtui.hub import cache as hub_cache
from glmtui.hub import client as hub
from glmtui.protocol.events import (
    Cancelled,
    Done,
    Downloaded,
    DownloadProgress,
    Event,
    Failed,
    Loaded,
    ModelList,
)
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import LocalModel, ModelEntry
from glmtui.protocol.requests import Download, Generate, ListModels, Load, RemoveModel, Request

NAME = "chatglm2-6b-int4"
Script = Callable[..., ChatModel]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer.of_folder(NAME, GOLDEN / "chatglm2-int4")
    with server.running() as address:
        monkeypatch.setattr(hub, "list_files", partial(hub.list_files, endpoint=address))
        yield server


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine()
    yield engine
    engine.close()
    assert engine.join(10)


def result(engine: LocalEngine, request: Request) -> list[Event]:
    """Submit; return the request's events up to its last."""
    return list(engine.submit(request))


def entry(events: list[Event], source: str) -> ModelEntry:
    assert isinstance(events[-1], ModelList)
    return next(entry for entry in events[-1].entries if entry.source == source)


def test_a_download_tells_of_every_file_and_changes_the_list(engine: LocalEngine, server: HubServer) -> None:
    assert entry(result(engine, ListModels()), NAME).place == "absent"
    *progress, downloaded = result(engine, Download(NAME))
    assert isinstance(downloaded, Downloaded)
    assert all(isinstance(event, DownloadProgress) for event in progress)
    last = progress[-1]
    assert isinstance(last, DownloadProgress)
    assert last.done == last.total
    assert "pytorch_model.bin" in {file.name for file in last.files}
    here = entry(result(engine, ListModels()), NAME)
    assert (here.place, here.path, here.format) == ("hub", downloaded.path, "INT4 bin")
    assert [quant for quant, _needed in here.needs] == ["4"]
    removed = result(engine, RemoveModel(here))
    assert entry(removed, NAME).place == "absent"
    assert not Path(downloaded.path).exists()


def test_a_download_is_cancelled_at_once_and_answers_go_on_next_to_it(
    server: HubServer, script: Script
) -> None:
    server.hold_after = 1000
    engine = LocalEngine(lambda _spec: lambda _progress: script("好" * 50))
    load, download = engine.submit(Load()), engine.submit(Download(NAME))
    assert server.held.wait(10)
    deadline = time.monotonic() + 10
    while not hub_cache.size_of(f"zai-org/{NAME}"):
        assert time.monotonic() < deadline
    answer = engine.submit(Generate((ChatMessage.of("user", "hi"),)))
    assert isinstance(list(load)[-1], Loaded)
    assert isinstance(list(answer)[-1], Done)
    assert not any(isinstance(event, Downloaded | Cancelled) for event in download.drain())
    download.cancel()
    assert isinstance(list(download)[-1], Cancelled)
    assert not server.release.is_set(), "it was held all the time"
    partial_entry = entry(result(engine, ListModels()), NAME)
    assert partial_entry.part_bytes > 0
    engine.close()
    assert engine.join(10)


def test_what_goes_wrong_is_one_line(engine: LocalEngine, server: HubServer) -> None:
    server.corrupt.add("pytorch_model.bin")
    failed = result(engine, Download(NAME))[-1]
    assert isinstance(failed, Failed)
    assert "pytorch_model.bin" in str(failed.phrase)
    assert "damaged" in str(failed.phrase)


def test_a_model_that_is_not_here_says_that_it_can_be_had(engine: LocalEngine) -> None:
    failed = result(engine, Load(LocalModel(NAME)))[-1]
    assert isinstance(failed, Failed)
    assert failed.absent == NAME
    assert failed.code == "model_not_here"
    assert not failed.model_kept


def test_a_bad_model_leaves_the_one_in_memory(tmp_path: Path, text_folder: Path, engine: LocalEngine) -> None:
    load = Load(LocalModel(str(text_folder), device="cpu", threads=1))
    assert isinstance(result(engine, load)[-1], Loaded)
    failed = result(engine, Load(LocalModel(str(tmp_path))))[-1]
    assert isinstance(failed, Failed)
    assert failed.model_kept
    assert failed.absent is None


def test_a_folder_is_added_and_forgotten(tmp_path: Path, text_folder: Path, engine: LocalEngine) -> None:
    added = result(engine, ListModels(add=str(text_folder)))
    mine = entry(added, str(text_folder))
    assert (mine.place, bool(mine.problem), mine.quant) == ("folder", False, "none")
    assert [quant for quant, _needed in mine.needs] == ["none", "8", "4"]
    again = result(engine, ListModels(add=str(tmp_path)))[-1]
    assert isinstance(again, Failed)
    forgotten = result(engine, RemoveModel(mine))[-1]
    assert isinstance(forgotten, ModelList)
    assert str(text_folder) not in [entry.source for entry in forgotten.entries]
    assert (text_folder / "config.json").exists()


def test_nano_stays(engine: LocalEngine) -> None:
    nano = entry(result(engine, ListModels()), None)  # type: ignore[arg-type]
    failed = result(engine, RemoveModel(nano))[-1]
    assert isinstance(failed, Failed)
    assert "nano" in str(failed.phrase)
