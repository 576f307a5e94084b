import json
import shutil
from pathlib import Path

import pytest
from golden_data import GOLDEN

from glmtui.errors import UserError
from glmtui.hub import cache as hub_cache
from glmtui.hub import catalog


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return tmp_path / "hub"


def put(hub: Path, repository: str, golden: str) -> Path:
    snapshot = hub / f"models--{repository.replace('/', '--')}" / "snapshots" / "0123abc"
    shutil.copytree(GOLDEN / golden, snapshot)
    reference = snapshot.parents[1] / "refs" / "main"
    reference.parent.mkdir()
    reference.write_text("0123abc")
    return snapshot


def test_a_folder(tmp_path: Path):
    folder = GOLDEN / "chatglm3-fp16"
    assert catalog.resolve(str(folder)).path == folder


@pytest.mark.parametrize("source", ["chatglm3-6b", "ChatGLM3-6B", "THUDM/chatglm3-6b", "zai-org/chatglm3-6b"])
@pytest.mark.parametrize("owner", ["THUDM", "zai-org"])
def test_a_name_is_found_in_the_hub_cache(hub: Path, source: str, owner: str):
    snapshot = put(hub, f"{owner}/chatglm3-6b", "chatglm3-fp16")
    folder = catalog.resolve(source)
    assert folder.path == snapshot
    assert folder.family == "chatglm3"


def test_any_hub_id_that_is_there(hub: Path):
    snapshot = put(hub, "someone/tuned", "chatglm-int4")
    assert catalog.resolve("someone/tuned").path == snapshot


def test_a_known_model_that_is_not_there(hub: Path):
    with pytest.raises(UserError, match=r"not on this machine.*glmtui models download chatglm2-6b"):
        catalog.resolve("chatglm2-6b")


@pytest.mark.parametrize("revision", ["0123abc", "0123", "v1.0"])
def test_a_revision_can_be_pinned(hub: Path, revision: str):
    snapshot = put(hub, "zai-org/chatglm3-6b", "chatglm3-fp16")
    (snapshot.parents[1] / "refs" / "v1.0").write_text("0123abc")
    other = Path(shutil.copytree(snapshot, snapshot.with_name("4567def")))
    (snapshot.parents[1] / "refs" / "main").write_text("4567def")
    assert catalog.resolve(f"chatglm3-6b@{revision}").path == snapshot
    assert catalog.resolve("chatglm3-6b").path == other
    with pytest.raises(UserError, match="chatglm3-6b@v2 is not on this machine"):
        catalog.resolve("chatglm3-6b@v2")


def test_a_snapshot_is_called_by_its_repository(hub: Path):
    assert hub_cache.title(put(hub, "zai-org/chatglm3-6b", "chatglm3-fp16")) == "chatglm3-6b"
    assert hub_cache.title(Path("/models/mine")) == "mine"


def test_a_snapshot_without_a_branch_is_found(hub: Path):
    """As a download of a pinned revision leaves it."""
    snapshot = put(hub, "zai-org/chatglm3-6b", "chatglm3-fp16")
    (snapshot.parents[1] / "refs" / "main").unlink()
    assert catalog.resolve("chatglm3-6b").path == snapshot


def test_a_folder_with_an_at_sign_is_a_folder(tmp_path: Path):
    folder = Path(shutil.copytree(GOLDEN / "chatglm3-fp16", tmp_path / "glm@home"))
    assert catalog.resolve(str(folder)).path == folder


def test_snapshots_lists_the_cache(hub: Path):
    put(hub, "someone/tuned--much", "chatglm-int4")
    (hub / "models--zai-org--empty" / "snapshots" / ("0" * 40)).mkdir(parents=True)
    [snapshot] = hub_cache.snapshots()
    assert (snapshot.hub_id, snapshot.commit, snapshot.revisions) == (
        "someone/tuned--much",
        "0123abc",
        ("main",),
    )


def test_an_unknown_name(hub: Path):
    for server in ("127.0.0.1:8000/v1#glm", "localhost:8000"):
        with pytest.raises(UserError, match=f"http://{server}$"):
            catalog.resolve(server)
    with pytest.raises(UserError, match=r"chatgml-6b is neither .*chatglm-6b, "):
        catalog.resolve("chatgml-6b")


@pytest.mark.parametrize("source", ["/nowhere/model", "./model", "~/no such model", "a/b/c"])
def test_a_folder_that_is_not_there(hub: Path, source: str):
    with pytest.raises(UserError, match="There is no folder"):
        catalog.resolve(source)


def test_a_file_is_no_folder():
    with pytest.raises(UserError, match="is a file"):
        catalog.resolve(str(GOLDEN / "tokenization.json"))


def test_the_builtin_model_is_the_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalog, "BUILTIN", GOLDEN / "chatglm-fp16-sharded")
    assert catalog.resolve(None).path == GOLDEN / "chatglm-fp16-sharded"


def test_sizes_match_the_published_files():
    published = {
        "chatglm-6b": 13416906785,
        "chatglm2-6b": 12487168064,
        "chatglm2-6b-int4": 3923712365,
        "glm-4-9b-chat-hf": 18_799_902_720,
    }
    for name, size in published.items():
        model = catalog.find(name)
        assert model is not None
        assert model.file_bytes == pytest.approx(size, rel=1e-3)


def test_newer_models_have_the_parameters_that_they_are_named_for():
    for name, billions in {
        "glm-edge-1.5b-chat": 1.59, "glm-edge-4b-chat": 4.33, "glm-4-9b-chat": 9.40, "glm-4-9b-0414": 9.40,
        "glm-4-32b-0414": 33.1, "glm-4.5-air": 106.9, "glm-4.7-flash": 29.9,
    }.items():  # fmt: skip
        model = catalog.find(name)
        assert model is not None
        assert model.sizes.parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_the_table_is_consistent():
    names = [model.name for model in catalog.KNOWN]
    assert len(set(names)) == len(names)
    for model in catalog.KNOWN:
        assert model.memory_bytes("4") < model.memory_bytes("8") < model.memory_bytes("none")
        assert model.hub_id.lower().endswith(model.name)
    assert json.dumps(names)
