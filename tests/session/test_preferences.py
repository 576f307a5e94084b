"""Settings: by whatever way one changes, the same follows from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from session.conftest import Chat, ready

from glmtui import i18n
from glmtui.protocol import phrases
from glmtui.protocol.sampling import Sampling
from glmtui.session.events import SettingsChanged
from glmtui.session.preferences import problems
from glmtui.settings.schema import BY_KEY
from glmtui.settings.settings import Settings

Make = Callable[..., Chat]
LENGTH, QUANT = BY_KEY["generation.max_length"], BY_KEY["model.quant"]
TEMPERATURE = BY_KEY["generation.temperature"]


def changed(chat: Chat) -> frozenset[str]:
    """All keys that were told of."""
    return frozenset().union(*(event.keys for event in chat.of(SettingsChanged)))


async def edit_file(chat: Chat, text: str) -> None:
    path = chat.settings.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    assert chat.preferences.reread()


async def by_command(chat: Chat) -> None:
    await chat.enter("/set max_length 512")


async def by_command_here(chat: Chat) -> None:
    await chat.enter("/set here max_length 512")


async def in_the_pane(chat: Chat) -> None:
    chat.preferences.put(LENGTH, 512)


async def in_the_pane_here(chat: Chat) -> None:
    chat.preferences.toggle_here(LENGTH)
    chat.preferences.put(LENGTH, 512)


async def by_a_preset_with_the_arrow_keys(chat: Chat) -> None:
    chat.preferences.use_preset("short")


async def by_a_preset_by_command(chat: Chat) -> None:
    await chat.enter("/preset short")


async def in_the_file(chat: Chat) -> None:
    await edit_file(chat, "[generation]\nmax_length = 512\n")


@pytest.mark.parametrize(
    "change",
    [by_command, by_command_here, in_the_pane, in_the_pane_here, by_a_preset_with_the_arrow_keys,
     by_a_preset_by_command, in_the_file],
)  # fmt: skip
async def test_every_way_changes_the_limit_and_is_told(
    make: Make, change: Callable[[Chat], Awaitable[None]]
) -> None:
    chat = await ready(make("Yes."))
    chat.settings.save_preset("long")
    chat.settings.set("generation.max_length", 512)
    chat.settings.save_preset("short")
    chat.settings.reset("generation.max_length")
    chat.measure()
    assert chat.state.limit == 2048
    chat.told.clear()
    await change(chat)
    assert chat.state.limit == 512
    assert "generation.max_length" in changed(chat)
    assert not any(key.startswith("model.") for key in changed(chat))
    assert len(chat.engine.loads) == 1, "the model stays"
    await chat.enter("Go")
    await chat.idle()
    assert chat.engine.generated[-1].sampling.max_length == 512


async def quant_by_command(chat: Chat) -> None:
    await chat.enter("/quant 4")


async def quant_by_set(chat: Chat) -> None:
    await chat.enter("/set quant 4")


async def quant_in_the_pane(chat: Chat) -> None:
    chat.preferences.put(QUANT, "4")


async def quant_in_the_file(chat: Chat) -> None:
    await edit_file(chat, "[model]\nquant = 4\n")


@pytest.mark.parametrize("change", [quant_by_command, quant_by_set, quant_in_the_pane, quant_in_the_file])
async def test_every_way_loads_the_model_again(chat: Chat, change: Callable[[Chat], Awaitable[None]]) -> None:
    chat.told.clear()
    await change(chat)
    await chat.idle()
    assert [load.spec.quant for load in chat.engine.loads] == [None, "4"]
    assert "model.quant" in changed(chat)
    assert chat.state.info is not None
    assert chat.state.info.quant == "4"


async def test_clear_takes_back_what_put_changed(chat: Chat) -> None:
    chat.preferences.put(LENGTH, 512)
    chat.preferences.clear(LENGTH)
    assert chat.state.limit == 2048
    assert Settings.load().is_default(LENGTH.key)
    chat.preferences.toggle_here(LENGTH)
    chat.preferences.put(LENGTH, 512)
    assert (chat.state.limit, chat.settings[LENGTH.key]) == (512, 2048)
    chat.preferences.clear(LENGTH)
    assert (chat.state.limit, chat.preferences.own()) == (2048, {})


async def test_the_preset_in_use_is_the_one_that_was_chosen(chat: Chat) -> None:
    """And not one whose values are some of those that are set."""
    await chat.enter("/set max_length 512")
    await chat.enter("/preset save short")
    await chat.enter("/set max_length default")
    await chat.enter("/preset balanced")
    assert chat.settings.preset == "balanced"
    chat.told.clear()
    chat.preferences.use_preset("short")
    assert chat.settings.preset == "short"
    assert Settings.load().preset == "short"
    assert {"generation.max_length", "presets"} <= changed(chat)
    assert chat.state.limit == 512
    chat.preferences.use_preset("balanced")
    assert chat.settings.preset == "balanced"


async def test_a_conversation_has_values_of_its_own(make: Make) -> None:
    chat = await ready(make("One.", "Two.", "Three."))
    await chat.enter("Go")
    await chat.idle()
    chat.preferences.toggle_here(TEMPERATURE)
    chat.preferences.put(TEMPERATURE, 0.9)
    assert chat.saved().settings["generation.temperature"] == 0.9
    assert Settings.load().is_default("generation.temperature")
    await chat.enter("Again")
    await chat.idle()
    assert chat.engine.generated[-1].sampling.temperature == 0.9
    await chat.enter("/new")
    await chat.enter("Elsewhere")
    await chat.idle()
    assert chat.engine.generated[-1].sampling.temperature == 0.95


async def test_own_values_go_back_to_those_of_all_conversations(chat: Chat) -> None:
    await chat.enter("Go")
    await chat.idle()
    await chat.enter("/set here temperature 0.2")
    await chat.enter("/set here top_k 3")
    chat.preferences.clear(TEMPERATURE)
    assert chat.preferences.own() == {"generation.top_k": 3}
    await chat.enter("/set here top_k default")
    assert chat.preferences.own() == {}
    await chat.enter("/set here ui.theme mist")
    assert "same in all conversations" in chat.notices("error")[-1]


async def test_a_conversation_may_have_no_value_where_all_others_have_one(chat: Chat) -> None:
    await chat.enter("/set seed 7")
    await chat.enter("/set max_new_tokens 9")
    await chat.enter("Go")
    await chat.idle()
    await chat.enter("/set here seed auto")
    chat.preferences.set_here(BY_KEY["generation.max_new_tokens"], None)
    await chat.enter("Again")
    await chat.idle()
    sampling = chat.engine.generated[-1].sampling
    assert (sampling.seed, sampling.max_new_tokens) == (None, None)
    assert chat.conversation.path is not None
    await chat.open(chat.conversation.path)
    assert chat.preferences.own() == {"generation.seed": None, "generation.max_new_tokens": None}
    await chat.enter("/set here seed default")
    await chat.enter("/new")
    await chat.enter("Elsewhere")
    await chat.idle()
    sampling = chat.engine.generated[-1].sampling
    assert (sampling.seed, sampling.max_new_tokens) == (7, 9)


async def test_the_models_own_values_are_used_until_others_are_set(make: Make) -> None:
    chat = make("One.", "Two.")
    own = Sampling(32_768, temperature=0.6, top_k=40)
    chat.engine.info = replace(chat.engine.info, max_length=131_072, sampling=own)
    await ready(chat)
    assert chat.state.limit == 32_768
    await chat.enter("/set max_length 200000")
    await chat.enter("/set top_k 3")
    assert chat.state.limit == 131_072, "the model takes no more"
    await chat.enter("Go")
    await chat.idle()
    assert chat.engine.generated[-1].sampling == Sampling(200_000, temperature=0.6, top_k=3)


async def test_edits_of_the_file_are_taken_in(chat: Chat) -> None:
    chat.told.clear()
    await edit_file(
        chat,
        '# mine\n[ui]\ntheme = "mist"\nsettings_pane = true\n[model]\nquant = 8\n'
        '[generation]\ntop_k = "many"\ntemperature = 0.3\n[keys]\n"chat.new" = "f9"\n',
    )
    assert {"ui.theme", "ui.settings_pane", "model.quant", "generation.temperature", "keys"} <= changed(chat)
    assert "generation.top_k" not in changed(chat)
    assert any("generation.top_k" in problem for problem in problems(chat.settings))
    assert chat.settings.keys == {"chat.new": "f9"}
    chat.preferences.put(TEMPERATURE, 0.25)
    written = chat.settings.path.read_text("utf-8")
    assert "# mine" in written
    assert 'top_k = "many"' in written
    assert Settings.load()["generation.temperature"] == 0.25
    assert not chat.preferences.reread(), "what the session wrote is no edit"


async def test_a_value_that_cannot_be_saved_is_in_use_all_the_same(chat: Chat, home: Path) -> None:
    (home / "config").parent.mkdir(parents=True, exist_ok=True)
    (home / "config").touch()  # where the folder is to be
    chat.told.clear()
    await chat.enter("/set max_length 512")
    assert len(chat.notices("error")) == 1
    assert chat.state.limit == 512
    assert "generation.max_length" in changed(chat)


async def test_the_language_follows_at_once(chat: Chat) -> None:
    await chat.enter("/language zh_CN")
    assert i18n.tell(phrases._("Nothing was deleted.")) != "Nothing was deleted."
    assert changed(chat) == {"ui.language"}
