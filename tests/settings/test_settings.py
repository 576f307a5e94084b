import errno
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from time import process_time

import pytest
import tomlkit

from glmtui.errors import UserError
from glmtui.protocol.models import LocalModel, ModelInfo, RemoteModel
from glmtui.protocol.sampling import Sampling
from glmtui.settings import settings as module
from glmtui.settings import toml_files
from glmtui.settings.settings import BY_KEY, SCHEMA, SHIPPED_PRESETS, Setting, Settings, named

HAND_WRITTEN = """\
# 我的设置
editor = "vim"   # not glmtui's

[ui]
theme = "paper"  # at night: ink
unknown = [1, 2]

[generation]     # tuned for stories
temperature = 1.2
top_p = 0.9
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "config.toml"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_defaults_pass_their_own_checks_and_are_the_engines() -> None:
    for setting in SCHEMA:
        assert setting.check(setting.default) == setting.default
        assert setting.title
        assert setting.help
        assert setting.nullable == (setting.default is None)
    assert len(BY_KEY) == len(SCHEMA)
    assert Settings(Path("nowhere")).sampling() == Sampling()


def test_without_a_file_all_is_default_and_none_is_made(path: Path) -> None:
    settings = Settings.load(path)
    assert settings.problems == []
    assert all(settings.is_default(setting.key) for setting in SCHEMA)
    assert not path.parent.exists()


def test_a_file_nested_without_end_is_a_problem_and_nothing_more(path: Path) -> None:
    write(path, "x = " + "[" * 5000)
    (problem,) = map(str, Settings.load(path).problems)
    assert "cannot be read" in problem


def test_the_default_place_is_the_config_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    assert Settings.load().path == tmp_path / "config" / "config.toml"


def test_values_are_read(path: Path) -> None:
    write(path, HAND_WRITTEN + 'seed = 7\n[model]\nquant = 4\nsource = "/models/chatglm-6b"\n')
    settings = Settings.load(path)
    assert settings.problems == []
    assert settings["ui.theme"] == "paper"
    assert settings["model.quant"] == "4", "the number is as good as the word"
    assert settings.sampling() == Sampling(temperature=1.2, top_p=0.9, seed=7)


def test_saving_changes_only_what_it_should(path: Path) -> None:
    write(path, HAND_WRITTEN)
    settings = Settings.load(path)
    settings.set("generation.top_p", 0.5)
    assert path.read_text(encoding="utf-8") == HAND_WRITTEN.replace("0.9", "0.5")
    settings.set("ui.theme", "墨")
    settings.set("model.threads", 2)
    text = path.read_text(encoding="utf-8")
    assert 'theme = "墨"  # at night: ink' in text
    assert Settings.load(path)["model.threads"] == 2
    settings.reset("generation.temperature")
    assert settings.is_default("generation.temperature")
    settings.set("model.threads", None)
    text = path.read_text(encoding="utf-8")
    assert "temperature" not in text
    assert "threads" not in text
    assert "# tuned for stories" in text


def test_hand_edits_while_the_app_runs_survive(path: Path) -> None:
    write(path, HAND_WRITTEN)
    settings = Settings.load(path)
    write(path, HAND_WRITTEN + "top_k = 3\n# a new thought\n")
    settings.set("ui.theme", "ink")
    assert (
        path.read_text(encoding="utf-8")
        == HAND_WRITTEN.replace("paper", "ink") + "top_k = 3\n# a new thought\n"
    )
    settings.reload()
    assert settings["generation.top_k"] == 3


@pytest.mark.parametrize(
    ("key", "text", "allowed"),
    [
        ("generation.temperature", "3", "0 to 2"),
        ("generation.temperature", "nan", "0 to 2"),
        ("generation.temperature", '"hot"', "a number"),
        ("generation.temperature", "true", "a number"),
        ("generation.top_k", "1.5", "a whole number"),
        ("generation.seed", "-1", "whole number"),
        ("ui.mouse", "1", "true or false"),
        ("ui.language", '"klingon"', "auto, en, zh_CN"),
        ("model.quant", "true", "none, 8, 4"),
        ("ui.theme", "3", "text"),
        ("ui.theme", "[]", "text"),
    ],
)
def test_a_wrong_value_is_named_and_the_default_used(path: Path, key: str, text: str, allowed: str) -> None:
    section, _dot, name = key.partition(".")
    content = f"[{section}]\n{name} = {text}\n"
    write(path, content)
    settings = Settings.load(path)
    (problem,) = map(str, settings.problems)
    assert str(path) in problem
    assert key in problem
    assert allowed in problem
    assert settings.is_default(key)
    assert path.read_text(encoding="utf-8") == content


def test_a_misspelt_key_is_named_and_a_strange_one_left_alone(path: Path) -> None:
    write(path, '[ui]\nlanguge = "en"\n[somebody.elses]\nthing = 1\n')
    (problem,) = map(str, Settings.load(path).problems)
    assert "ui.languge" in problem
    assert "ui.language" in problem


@pytest.mark.parametrize("content", [b"[ui\n", b"\xff\xfe\x00", b'ui = "dark"\n'])
def test_a_broken_file_is_named_and_never_overwritten(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    settings = Settings.load(path)
    assert len(settings.problems) == 1
    assert str(path) in str(settings.problems[0])
    with pytest.raises(UserError, match=r"config\.toml"):
        settings.set("ui.theme", "ink")
    assert settings["ui.theme"] == "ink", "in use all the same"
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    assert str(path) in str(Settings.load(path).problems[0])


def test_a_byte_order_mark_is_no_problem(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'\xef\xbb\xbf[ui]\r\ntheme = "paper"\r\n')
    settings = Settings.load(path)
    assert settings["ui.theme"] == "paper"
    settings.set("ui.theme", "ink")
    assert Settings.load(path)["ui.theme"] == "ink"


def test_every_spelling_of_a_table_is_understood(path: Path) -> None:
    write(path, 'ui.theme = "a"\nmodel = {device = "cpu"}\n')
    settings = Settings.load(path)
    assert (settings["ui.theme"], settings["model.device"]) == ("a", "cpu")
    settings.update({"ui.theme": "b", "model.device": "cuda"})
    again = Settings.load(path)
    assert (again["ui.theme"], again["model.device"], again.problems) == ("b", "cuda", [])


def test_a_full_disk_is_said_and_the_value_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, HAND_WRITTEN)
    settings = Settings.load(path)

    def fail(_path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", fail)
    with pytest.raises(UserError, match="No space left"):
        settings.set("generation.top_k", 4)
    assert settings["generation.top_k"] == 4
    assert path.read_text(encoding="utf-8") == HAND_WRITTEN


def test_a_value_that_is_not_allowed_changes_nothing(path: Path) -> None:
    settings = Settings.load(path)
    with pytest.raises(UserError, match="0 to 1"):
        settings.update({"generation.top_k": 3, "generation.top_p": 2})
    assert settings.is_default("generation.top_k")
    with pytest.raises(UserError, match=r"generation\.temperature"):
        settings.set("generation.temprature", 1)
    assert not path.exists()


def test_edits_by_others_are_noticed_and_taken_in(path: Path) -> None:
    settings = Settings.load(path)
    assert not settings.edited()
    settings.set("generation.top_k", 7)
    assert not settings.edited(), "its own writing is no news"
    write(path, "[generation]\ntop_k = 8\n")
    os.utime(path, ns=(1, 1))
    settings.override({"model.device": "cpu"})
    assert settings.edited()
    settings.set("generation.top_p", 0.5)
    assert settings.edited(), "its own writing does not hide the other's"
    settings.reload()
    assert not settings.edited()
    assert (settings["generation.top_k"], settings["generation.top_p"]) == (8, 0.5)
    assert settings["model.device"] == "cpu", "an option of the command line holds for the whole run"


def test_a_file_that_breaks_while_the_app_runs_changes_nothing(path: Path) -> None:
    write(path, "[generation]\ntop_k = 8\n")
    settings = Settings.load(path)
    write(path, "[generation\ntop_k = ")
    settings.reload()
    assert settings["generation.top_k"] == 8
    assert "stay as they were" in str(settings.problems[0])


def test_settings_go_by_their_short_names(path: Path) -> None:
    assert named("temperature") is named("generation.temperature") is BY_KEY["generation.temperature"]
    with pytest.raises(UserError, match="temperature"):
        named("temprature")


def test_overriding_is_not_saved(path: Path) -> None:
    settings = Settings.load(path)
    settings.override({"model.device": "cpu"})
    settings.set("ui.theme", "ink")
    assert settings["model.device"] == "cpu"
    assert Settings.load(path).is_default("model.device")


def test_a_conversations_own_values_come_first(path: Path) -> None:
    settings = Settings.load(path)
    own = {"generation.temperature": 0.1, "generation.top_p": "wrong", "ui.theme": "x", "strange": 1}
    assert settings.sampling(own) == Sampling(temperature=0.1)
    assert settings.effective("ui.theme", own) == "x"
    assert settings.effective("ui.mouse", own) is True


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("generation.temperature", " 0.5 ", 0.5),
        ("generation.top_k", "40", 40),
        ("generation.seed", "", None),
        ("generation.seed", "auto", None),
        ("ui.mouse", "off", False),
        ("ui.mouse", "开", True),
        ("model.quant", "8", "8"),
        ("model.source", "/模型/chatglm", "/模型/chatglm"),
    ],
)
def test_what_a_person_types_is_read(key: str, typed: str, value: object) -> None:
    assert BY_KEY[key].parse(typed) == value


@pytest.mark.parametrize(
    ("key", "typed"), [("generation.top_k", "4.5"), ("ui.mouse", "perhaps"), ("model.quant", "5")]
)
def test_what_a_person_types_wrong_is_refused(key: str, typed: str) -> None:
    with pytest.raises(UserError, match=typed):
        BY_KEY[key].parse(typed)


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        (Setting("a.b", "int", 1, "t", "h", minimum=1), "1 or more"),
        (Setting("a.b", "int", 1, "t", "h"), "a whole number"),
    ],
)
def test_what_is_allowed_is_said(setting: Setting, allowed: str) -> None:
    assert allowed in str(setting.allowed())


def test_key_bindings(path: Path) -> None:
    write(path, '[keys]\nchat.send = "f2"  # dotted\n"chat.stop" = "f3"\nbad = 1\n')
    settings = Settings.load(path)
    assert settings.keys == {"chat.send": "f2", "chat.stop": "f3"}
    assert "keys.bad" in str(settings.problems[0])
    settings.set_key("chat.send", "ctrl+s")
    settings.set_key("chat.stop", None)
    settings.set_key("app.quit", "ctrl+q")
    assert Settings.load(path).keys == settings.keys == {"chat.send": "ctrl+s", "app.quit": "ctrl+q"}


def test_presets(path: Path) -> None:
    settings = Settings.load(path)
    settings.update({"generation.temperature": 0.2, "generation.system_prompt": "简短回答"})
    settings.save_preset("严谨.v1")
    settings.update({"generation.temperature": 1.5, "generation.seed": 3})
    settings = Settings.load(path)
    settings.apply_preset("严谨.v1")
    assert settings["generation.temperature"] == 0.2
    assert settings["generation.system_prompt"] == "简短回答"
    assert settings["generation.seed"] is None, "not in the preset: the default"
    assert Settings.load(path).sampling() == settings.sampling()
    settings.delete_preset("严谨.v1")
    assert Settings.load(path).presets == SHIPPED_PRESETS
    with pytest.raises(UserError, match="严谨"):
        settings.apply_preset("严谨.v1")
    with pytest.raises(UserError, match="name"):
        settings.save_preset("  ")


def test_shipped_presets_are_there_and_stay(path: Path) -> None:
    settings = Settings.load(path)
    assert settings.preset == "balanced"
    settings.set("generation.seed", 5)
    for name, held in SHIPPED_PRESETS.items():
        settings.apply_preset(name)
        assert settings.preset == name
        assert all(settings[key] == value for key, value in held.items())
    assert settings["generation.seed"] == 5, "not in the preset: it stays"
    settings.set("generation.top_k", 3)
    assert settings.preset is None
    settings.save_preset("greedy")
    assert settings.preset == "greedy"
    settings.delete_preset("greedy")
    assert settings.presets == SHIPPED_PRESETS
    with pytest.raises(UserError, match="stays"):
        settings.delete_preset("greedy")


MODEL = ModelInfo(
    "glm", "/glm", "glm4", 131_072, True, parameters=9, device="cpu", device_name="CPU",
    dtype="float32", memory_bytes=9,
    sampling=Sampling(32_768, temperature=0.6, top_p=0.95, top_k=40, repetition_penalty=1.1),
)  # fmt: skip


def test_where_nothing_is_set_the_models_own_values_hold(path: Path) -> None:
    write(path, "[generation]\ntop_p = 0.5\n")
    settings = Settings.load(path)
    settings.follow(MODEL)
    assert settings.sampling() == replace(MODEL.sampling, top_p=0.5)
    assert settings.is_default("generation.temperature")
    assert not settings.is_default("generation.top_p")
    settings.reset("generation.top_p")
    assert settings.sampling({"generation.top_k": 7}) == replace(MODEL.sampling, top_k=7)
    settings.follow(replace(MODEL, sampling=Sampling(2048)))
    assert settings.sampling() == Sampling()
    assert "generation" not in path.read_text() or "=" not in path.read_text()


def test_the_balanced_preset_is_the_models_own_and_goes_with_the_model(path: Path) -> None:
    settings = Settings.load(path)
    settings.follow(MODEL)
    assert settings.preset == "balanced"
    settings.apply_preset("greedy")
    settings.apply_preset("balanced")
    assert settings.sampling() == MODEL.sampling
    settings.follow(replace(MODEL, sampling=Sampling()))
    assert settings.preset == "balanced"
    assert Settings.load(path).sampling() == Sampling()


def test_a_wrong_value_in_a_preset_is_named(path: Path) -> None:
    write(path, "[presets.wild]\ntemperature = 9\ntop_p = 0.2\ncolour = 1\n")
    settings = Settings.load(path)
    assert settings.presets["wild"]["generation.top_p"] == 0.2
    assert "generation.temperature" not in settings.presets["wild"]
    assert "wild" in str(settings.problems[0])


def test_the_section_model_is_a_model(path: Path) -> None:
    """A new option of loading is one field and one row."""
    rows = {setting.name: setting for setting in SCHEMA if setting.section == "model"}
    defaults = {field.name: field.default for field in fields(LocalModel)}
    assert {name: row.default for name, row in rows.items()}.items() <= defaults.items()
    assert defaults.keys() - rows.keys() == {"dtype"}
    write(path, '[model]\nsource = "/m"\nquant = 4\nthreads = 2\ngpus = ""\n')
    settings = Settings.load(path)
    assert settings.model_spec() == LocalModel("/m", quant="4", threads=2)
    settings.override(
        {"model.source": None, "model.device": "cpu", "model.quant": None, "model.threads": None}
    )
    assert settings.model_spec() == LocalModel(device="cpu")
    assert path.read_text().count("\n") == 5


def test_reading_imports_no_slow_module() -> None:
    code = (
        "import sys, glmtui.settings.settings as s; s.Settings.load(); "
        "print({'tomlkit', 'torch', 'textual'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_a_hundred_thousand_strange_keys_cost_a_second(path: Path) -> None:
    lines = [f"temperatur{n} = {n}" for n in range(20_000)]
    lines += ["[generation]", "temperature = 0.5", "max_length = " + "9" * 400, "seed = inf"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    start = process_time()
    settings = Settings.load(path)
    assert process_time() - start < 5  # 8 s and more where all are compared
    assert settings["generation.temperature"] == 0.5
    assert settings.is_default("generation.max_length")
    assert 1 < len(settings.problems) < 50
    assert all(len(str(problem)) < 500 for problem in settings.problems)


@pytest.mark.parametrize("kind", ["fifo", "link to itself", "endless", "deep"])
def test_what_is_no_file_to_read_is_named_and_nothing_waits(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.write_text("x = " + "[" * 100_000)
    settings = Settings.load(path)
    assert len(settings.problems) == 1
    with pytest.raises(UserError, match="could not be saved"):
        settings.set("generation.top_p", 0.5)
    assert settings["generation.top_p"] == 0.5


MISLEADING = '''
title = """
[generation]
top_k = 9
"""  # [generation]
lists = [
  [1], ["]"],
  [[4, 5]],
]
table = { generation = { x = [
  [6]] } }
'''


@pytest.mark.parametrize(
    "written", ["hand", "misleading", "scattered", "without the table", "without an end"]
)
def test_a_large_file_is_changed_as_a_small_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    text = {
        "hand": HAND_WRITTEN,
        "misleading": MISLEADING + HAND_WRITTEN,
        "scattered": MISLEADING + "[presets.a]\ntop_k = 1\n[ui]\nx = nan\n[ 'presets' . b]\ntop_k = 2\n",
        "without the table": "[ui]\nx = 1\n",
        "without an end": "[ui]\nx = 1",
    }[written]
    written_twice = []
    for most in (1 << 20, 0):
        monkeypatch.setattr(toml_files, "MOST_AT_ONCE", most)
        write(path, text)
        settings = Settings.load(path)
        settings.update({"generation.top_k": 4, "generation.top_p": 0.25, "ui.theme": "ink"})
        settings.save_preset("b")
        settings.save_preset("c")
        settings.reset("generation.top_p")
        settings.delete_preset("c")
        settings.set_key("quit", "f10")
        again = Settings.load(path)
        assert (again["generation.top_k"], again["ui.theme"], again.keys) == (4, "ink", {"quit": "f10"})
        assert again.is_default("generation.top_p")
        assert again.presets["b"]["generation.top_p"] == 0.25
        written_twice.append(tomlkit.parse(path.read_text(encoding="utf-8")).unwrap())
    assert repr(written_twice[0]) == repr(written_twice[1])
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in path.read_text(encoding="utf-8").splitlines() if line in comments] == comments


def test_a_file_of_half_a_megabyte_is_changed_too(path: Path) -> None:
    strange = "".join(f"key{number} = {number}\n" for number in range(25_000))
    text = f"[ui]\ntheme = 'paper'\n[strange]\n{strange}# the end\n"
    write(path, text)
    settings = Settings.load(path)
    settings.set("ui.theme", "ink")
    assert path.read_text(encoding="utf-8") == text.replace("'paper'", '"ink"')


def test_a_spelling_that_a_large_file_cannot_be_changed_in_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toml_files, "MOST_AT_ONCE", 0)
    write(path, text := 'ui.theme = "a"\n')
    settings = Settings.load(path)
    with pytest.raises(UserError, match="too large"):
        settings.set("ui.theme", "b")
    assert path.read_text(encoding="utf-8") == text


def test_what_could_not_be_read_again_is_not_written(path: Path) -> None:
    settings = Settings.load(path)
    settings.set("ui.theme", "ink")
    with pytest.raises(UserError, match="MB"):
        settings.set("generation.system_prompt", "x" * (toml_files.MOST_BYTES + 1))
    assert Settings.load(path)["ui.theme"] == "ink"


def test_secrets_are_not_shown() -> None:
    assert BY_KEY["web.key"].shown("abc123") == "••••"
    assert BY_KEY["web.key"].shown("") == ""
    assert BY_KEY["web.url"].shown("abc") == "abc"


def test_a_number_without_end_costs_its_own_key(path: Path) -> None:
    digits = "9" * 5000
    write(
        path,
        f'[generation]\ntop_k = {digits}\ntemperature = -{digits}\n# {digits}\nsystem_prompt = "{digits}"\n',
    )
    settings = Settings.load(path)
    assert [problem.split(":")[1].split()[0] for problem in map(str, settings.problems)] == [
        "generation.top_k",
        "generation.temperature",
    ]
    assert settings["generation.system_prompt"] == digits


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomli gives the file up, and it is named")
def test_tables_without_end_are_a_key_that_is_not_known(path: Path) -> None:
    write(path, f"[generation.{'.'.join('a' * 3000)}]\nx = 1\n[ui]\ntheme = 'paper'\n")
    assert Settings.load(path)["ui.theme"] == "paper"


def test_what_two_programs_change_at_once_is_both_kept(path: Path) -> None:
    """The second waits until the first has written."""
    script = """if True:
        import sys
        from pathlib import Path
        from glmtui.settings.settings import Settings
        settings = Settings.load(Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        for value in range(100):
            settings.set(sys.argv[2], value + 1)
    """
    keys = ("generation.top_k", "generation.seed")
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for key in keys
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    for program in programs:
        program.communicate()
    settings = Settings.load(path)
    assert [settings[key] for key in keys] == [100, 100]


def test_errors_are_told_in_words(path: Path) -> None:
    path.parent.mkdir(parents=True)
    (path.parent / "file").touch()
    settings = Settings.load(path.parent / "file" / "config.toml")
    assert "(Not a directory)" in str(settings.problems[0])
    with pytest.raises(UserError, match=r": Not a directory\."):
        settings.set("generation.top_k", 3)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("https://huggingface.co/THUDM/chatglm-6b", LocalModel),
        ("https://hf-mirror.com/THUDM/chatglm-6b/tree/main", LocalModel),
        ("https://router.huggingface.co/v1", RemoteModel),
        ("http://127.0.0.1:8000/v1#glm", RemoteModel),
    ],
)
def test_a_page_of_the_hub_is_no_server(path: Path, source: str, kind: type) -> None:
    settings = Settings.load(path)
    settings.override({"model.source": source})
    assert isinstance(settings.model_spec(), kind)
