"""The settings: one schema that the file, the command line, the settings pane and its help come from.

``config.toml`` in the configuration directory belongs to the person. glmtui changes only the keys it is told
to change: comments, order, unknown keys and values it does not understand stay as they are. A wrong value is
named in `Settings.problems` and the default is used instead.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from glmtui import paths
from glmtui.atomic import make_directory, write_atomically
from glmtui.errors import BadValueError, NotFoundError, StorageError, UserError
from glmtui.locking import locked_folder
from glmtui.protocol.phrases import Phrase, _, listing, verbatim
from glmtui.protocol.sampling import Sampling
from glmtui.regular_files import read_regular, reason, too_large
from glmtui.settings.schema import ADAPTERS, BY_KEY, MODELS_OWN, SCHEMA, SHIPPED_PRESETS, Setting, Value
from glmtui.settings.toml_files import MOST_BYTES, Change, change_toml, read_toml
from glmtui.text.json_values import DEEPEST

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from glmtui.protocol.models import ModelInfo, ModelSpec, RemoteModel
    from glmtui.settings.tool_servers import ToolServer

__all__ = ["BY_KEY", "SCHEMA", "SHIPPED_PRESETS", "Setting", "Settings", "Value", "named"]

_SECTIONS = frozenset(setting.section for setting in SCHEMA) | {"keys", "presets", "engines", "mcp"}
Stamp = tuple[int, int, int]
_Named = TypeVar("_Named")
_SAMPLING_KEYS = tuple(
    setting.key
    for setting in SCHEMA
    if setting.section == "generation" and setting.key not in ("generation.system_prompt", ADAPTERS)
)
"""Named like the fields of `Sampling`; also what a preset may hold, besides the system prompt."""
MOST_STRANGE = 100
"""Unknown keys of a file that are compared with all settings, as that takes a while."""
MOST_PROBLEMS = 20
"""Lines about a file: nobody reads more at once."""
_LENGTH = "generation.max_length"
_SHORTEST = "generation.min_length"
_OWN = tuple(SHIPPED_PRESETS[MODELS_OWN])
_UNSET: Mapping[str, Value] = {key: None for key in _SAMPLING_KEYS if BY_KEY[key].nullable}
"""What a preset in the file means where it holds nothing: it cannot hold None."""


class Settings:
    """The values in use. Make one with `load`; it knows its file and writes only when told to."""

    def __init__(self, path: Path | None = None) -> None:
        self.path: Path = path or paths.config_dir() / "config.toml"
        self.problems: list[Phrase] = []
        """What is wrong in the file, each with its key."""
        self.longest = int(BY_KEY[_LENGTH].maximum or 0)
        """What the model in memory was made for, in tokens."""
        self._model: dict[str, Value] = {}
        """What its makers chose, which holds where nothing else is set."""
        self._values: dict[str, Value] = {}
        self._overrides: dict[str, Value] = {}
        """Values of this run alone; they come before those of the file."""
        self._keys: dict[str, str] = {}
        self._presets: dict[str, dict[str, Value]] = {}
        self._chosen_preset = ""
        self._engines: dict[str, RemoteModel] = {}
        self._tool_servers: dict[str, ToolServer] = {}
        self._seen: Stamp | None = None
        """The file as it was last read, or written without anything of others' in it."""

    @classmethod
    def load(cls, path: Path | None = None) -> Settings:
        """Read `path` (by default ``config.toml`` in the configuration directory). Never raises."""
        settings = cls(path)
        settings.reload()
        return settings

    def reload(self) -> None:
        """Read the file again, as after a person edited it.

        Of a file that cannot be read nothing is taken: what was in use (at first: the defaults) stays.
        """
        first, self._seen, self.problems = self._seen is None, self._stamp(), []
        try:
            data = read_toml(self.path)
        except FileNotFoundError:
            data = {}
        except (OSError, ValueError) as error:
            used = (
                _("{path} cannot be read ({error}); the default settings are used.")
                if first
                else _("{path} cannot be read ({error}); the settings stay as they were.")
            )
            self.problems.append(used.format(path=self.path, error=reason(error)))
            return
        self._values, self._keys, self._presets, strange = {}, {}, {}, 0
        self._engines, self._tool_servers = {}, {}
        if "engines" in data:
            from glmtui.settings import engines

            self._engines = self._read_tables(data, "engines", engines.from_table)
        if "mcp" in data:
            from glmtui.settings import tool_servers

            self._tool_servers = self._read_tables(data, "mcp", tool_servers.from_table)
        for key, value in _flatten(data):
            section = key.partition(".")[0]
            if key in _SECTIONS:
                self._problem(_("{key} must be a table, written [{key}].").format(key=key))
            elif section == "keys":
                self._read_key(key, value)
            elif section == "presets":
                self._read_preset(key, value)
            elif setting := BY_KEY.get(key):
                self._read_value(setting, value)
            elif strange < MOST_STRANGE:
                strange += 1
                if near := difflib.get_close_matches(key, BY_KEY, n=1, cutoff=0.75):
                    said = _("{key} is not a setting; did you mean {near}?")
                    self._problem(said.format(key=key, near=near[0]))

    def edited(self) -> bool:
        """Whether somebody else wrote to the file since it was read."""
        return self._stamp() != self._seen

    def __getitem__(self, key: str) -> Value:
        if key in self._overrides:
            return self._overrides[key]
        return self._values.get(key, self.default(key))

    def default(self, key: str) -> Value:
        """Return the value where nothing is set: that of the model in memory, where it has one."""
        return self._model.get(key, BY_KEY[key].default)

    def is_default(self, key: str) -> bool:
        """Whether the value in use is the default."""
        return self[key] == self.default(key)

    def follow(self, info: ModelInfo) -> None:
        """Let what the makers of this model chose be the defaults from now on."""
        self.longest = info.max_length
        self._model = {key: getattr(info.sampling, BY_KEY[key].name) for key in (*_OWN, _LENGTH, _SHORTEST)}

    def set(self, key: str, value: object) -> None:
        """Use `value` for `key` from now on and save it.

        Raises:
            UserError: the value is not allowed (nothing changed), or it is in use but could not be saved.
        """
        self.update({key: value})

    def update(self, values: Mapping[str, object]) -> None:
        """`set` several at once, with one write of the file."""
        checked = {key: _setting(key).check(value) for key, value in values.items()}
        self._forget_overrides(checked)
        self._values |= checked
        self._save(_by_section(checked))

    def override(self, values: Mapping[str, object]) -> None:
        """Use `values`, by full key, in this run without saving them, as a command line option does."""
        self._overrides |= {key: _setting(key).check(value) for key, value in values.items()}

    def reset(self, key: str) -> None:
        """Go back to the default and take the key out of the file."""
        self._reset([_setting(key).key])

    def effective(self, key: str, overrides: Mapping[str, object]) -> Value:
        """Return the value for a conversation whose own `overrides` (by full key) come first.

        A wrong one is passed over: it comes from a file that somebody edited.
        """
        if key in overrides:
            with contextlib.suppress(UserError):
                return BY_KEY[key].check(overrides[key])
        return self[key]

    def sampling(self, overrides: Mapping[str, object] = MappingProxyType({})) -> Sampling:
        """Return how answers are generated, in a conversation with its own `overrides`."""
        values: dict[str, Any] = {BY_KEY[key].name: self.effective(key, overrides) for key in _SAMPLING_KEYS}
        return Sampling(**values)

    @property
    def engines(self) -> Mapping[str, RemoteModel]:
        """Models behind servers, by the names that a person gave them: ``[engines.NAME]``."""
        return MappingProxyType(self._engines)

    @property
    def tool_servers(self) -> Mapping[str, ToolServer]:
        """Programs whose tools models may call, by the names that a person gave them: ``[mcp.NAME]``."""
        return MappingProxyType(self._tool_servers)

    def model_spec(self) -> ModelSpec:
        """Return the model to start with, from the section ``model``."""
        from glmtui.protocol.models import LocalModel
        from glmtui.settings import engines

        source = self["model.source"]
        if isinstance(source, str) and (found := engines.find(source, self._engines)) is not None:
            return found
        values: dict[str, Any] = {row.name: self[row.key] for row in SCHEMA if row.section == "model"}
        return LocalModel(**values)

    # --- keys ---

    @property
    def keys(self) -> Mapping[str, str]:
        """The person's own key bindings: binding id to keys (comma-separated), from the table ``[keys]``."""
        return MappingProxyType(self._keys)

    def set_key(self, binding: str, keys: str | None) -> None:
        """Bind the action with the id `binding` to `keys`; None goes back to the default."""
        self._keys.pop(binding, None)
        if keys is not None:
            self._keys[binding] = keys

        def change(document: TOMLDocument) -> None:
            _remove(document, ["keys", binding])
            if keys is not None:
                _table(document, ["keys"])[binding] = keys

        self._save({"keys": change})

    # --- presets ---

    @property
    def presets(self) -> Mapping[str, Mapping[str, Value]]:
        """Named sets of values (full keys of section ``generation``): shipped ones and ``[presets.NAME]``."""
        own = {key: self.default(key) for key in _OWN}
        return MappingProxyType({**SHIPPED_PRESETS, MODELS_OWN: own, **self._presets})

    def is_shipped(self, name: str) -> bool:
        """Whether the preset `name` comes with glmtui, unchanged: it cannot be deleted."""
        return name in SHIPPED_PRESETS and name not in self._presets

    def preset_title(self, name: str) -> Phrase:
        """How lists show the preset `name`."""
        return Phrase(name) if name in SHIPPED_PRESETS else verbatim(name)

    @property
    def preset(self) -> str | None:
        """Name of the preset whose values are in use: of several, the one chosen last, else the one that says
        most."""
        presets = self.presets
        fitting = [
            name
            for name, values in presets.items()
            if all(self[key] == value for key, value in values.items())
        ]
        if self._chosen_preset in fitting:
            return self._chosen_preset
        return max(fitting, key=lambda name: len(presets[name]), default=None)

    def save_preset(self, name: str) -> None:
        """Keep the values of the section ``generation`` that are in use under `name`."""
        name = name.strip()
        if not name:
            raise BadValueError(_("A preset needs a name, for example: /preset save creative"))
        values = {setting.key: self[setting.key] for setting in SCHEMA if setting.section == "generation"}
        self._presets[name] = values
        self._chosen_preset = name
        plain = {key.partition(".")[2]: value for key, value in values.items() if value is not None}

        def change(document: TOMLDocument) -> None:
            _remove(document, ["presets", name])
            _table(document, ["presets", name]).update(plain)

        self._save({"presets": change})

    def apply_preset(self, name: str) -> None:
        """Use and save the values kept under `name`; what it does not hold stays as it is.

        The model's own values are not saved: another model has others.
        """
        values = self.presets[self._known_preset(name)]
        self._chosen_preset = name
        if name == MODELS_OWN and self.is_shipped(name):
            self._reset(values)
        else:
            self.update(values)

    def delete_preset(self, name: str) -> None:
        """Forget the preset `name`; a shipped one that was saved over comes back as it was.

        Raises:
            UserError: there is none of this name, or only the shipped one.
        """
        if self.is_shipped(self._known_preset(name)):
            raise BadValueError(_("The preset {name} comes with glmtui and stays.").format(name=name))
        self._presets.pop(name, None)
        self._save({"presets": lambda document: _remove(document, ["presets", name])})

    def _known_preset(self, name: str) -> str:
        if name not in self.presets:
            known = listing(self.presets)
            raise NotFoundError(
                _("There is no preset {name}. Presets: {known}").format(name=name, known=known)
            )
        return name

    # --- the file ---

    def _read_tables(
        self, data: dict[str, Any], section: str, read: Callable[[str, dict[str, Any]], _Named]
    ) -> dict[str, _Named]:
        """Take the tables ``[section.NAME]`` out of `data`; one that is wrong is named and left out."""
        found: dict[str, _Named] = {}
        tables = data.pop(section, {})
        if not isinstance(tables, dict):
            self._problem(_("{key} must be a table, written [{key}].").format(key=section))
            return found
        for name, table in tables.items():
            if not isinstance(table, dict):
                self._problem(_("{key} must be a table, written [{key}].").format(key=f"{section}.{name}"))
                continue
            try:
                found[name] = read(name, table)
            except UserError as error:
                self._problem(error.phrase)
        return found

    def _read_value(self, setting: Setting, value: object) -> None:
        try:
            self._values[setting.key] = setting.check(value)
        except UserError as error:
            self._problem(_("{error}. The default is used.").format(error=error))

    def _read_key(self, key: str, value: object) -> None:
        binding = key.partition(".")[2]
        if binding and isinstance(value, str):
            self._keys[binding] = value
        else:
            self._problem(_('{key} must be text such as "ctrl+n".').format(key=key))

    def _read_preset(self, key: str, value: object) -> None:
        name, _dot, rest = key.removeprefix("presets.").rpartition(".")
        setting = BY_KEY.get(f"generation.{rest}")
        if not name or setting is None:
            return
        try:
            self._presets.setdefault(name, dict(_UNSET))[setting.key] = setting.check(value)
        except UserError as error:
            self._problem(_("preset {name}: {error}.").format(name=name, error=error))

    def _reset(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self._forget_overrides(keys)
        for key in keys:
            self._values.pop(key, None)

        self._save(_by_section(dict.fromkeys(keys)))

    def _forget_overrides(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._overrides.pop(key, None)

    def _stamp(self) -> Stamp:
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0, 0)
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _problem(self, what: Phrase) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(_("{path}: {what}").format(path=self.path, what=what))
        elif len(self.problems) == MOST_PROBLEMS:
            self.problems.append(_("There is more that is wrong in {path}.").format(path=self.path))

    def _save(self, changes: Mapping[str, Change]) -> None:
        """Make `changes`, by table, to the file as it is on disk now: hand edits since `load` survive."""
        from tomlkit.exceptions import TOMLKitError  # slow to import, and most runs never save

        try:
            with contextlib.suppress(OSError):
                make_directory(self.path.parent)
            with locked_folder(self.path.parent):  # another program may change another key
                alone = not self.edited()
                try:
                    text = read_regular(self.path, MOST_BYTES).decode("utf-8-sig")
                except FileNotFoundError:
                    text = ""
                for table, change in changes.items():
                    text = change_toml(text, table, change)
                if len(data := text.encode()) > MOST_BYTES:  # nothing would be read of it
                    raise too_large(len(data), MOST_BYTES)
                write_atomically(self.path, data)
                if alone:  # else the other's changes are still to be read
                    self._seen = self._stamp()
        except (TOMLKitError, OSError, ValueError, TypeError, RecursionError) as error:
            raise self._not_saved(error) from error

    def _not_saved(self, error: Exception) -> UserError:
        return StorageError(
            _(
                "The change holds until you quit but could not be saved in {path}: {error}. "
                "Correct or remove that file, or make room for it, and set it again."
            ).format(path=self.path, error=reason(error))
        )


def named(name: str) -> Setting:
    """Return the setting that a person calls `name`: its full key, or the part behind the dot.

    Raises:
        UserError: there is none; the message names those like it.
    """
    found = [setting for setting in SCHEMA if name in (setting.key, setting.name)]
    return found[0] if len(found) == 1 else _setting(name)


def _setting(key: str) -> Setting:
    setting = BY_KEY.get(key)
    if setting is None:
        near = difflib.get_close_matches(key, BY_KEY, n=3, cutoff=0.4)
        raise NotFoundError(
            _("There is no setting {key}. Near it: {near}").format(key=key, near=listing(near or BY_KEY))
        )
    return setting


def _flatten(
    table: Mapping[str, object], prefix: str = "", depth: int = DEEPEST
) -> Iterable[tuple[str, object]]:
    """Yield every value with its full dotted key, so that all of TOML's spellings of a table are one.

    A table that lies deeper than any that means something is such a value itself.
    """
    for name, value in table.items():
        if isinstance(value, dict) and depth:
            yield from _flatten(value, f"{prefix}{name}.", depth - 1)
        else:
            yield prefix + name, value


def _by_section(values: Mapping[str, Value]) -> dict[str, Change]:
    """Return how `values`, by full key, are stored in the tables of their sections; None takes a key out."""
    sections: dict[str, dict[str, Value]] = {}
    for key, value in values.items():
        sections.setdefault(key.partition(".")[0], {})[key] = value
    return {section: partial(_store, values=of_section) for section, of_section in sections.items()}


def _store(document: TOMLDocument, values: Mapping[str, Value]) -> None:
    for key, value in values.items():
        section, _dot, name = key.partition(".")
        if value is None:
            _remove(document, [section, name])
        else:
            _table(document, [section])[name] = value


def _table(document: TOMLDocument, path: list[str]) -> Any:
    """Return the table at `path`, made where missing."""
    import tomlkit

    table: Any = document
    for name in path:
        if name not in table:
            table[name] = tomlkit.table()
        table = table[name]
        if not isinstance(table, dict):
            raise TypeError(_("{name} must be a table").format(name=name))
    return table


def _remove(document: TOMLDocument, path: list[str]) -> None:
    """Take the key at `path` out, also where its dots were written as nested tables."""
    table: Any = document
    for name in path[:-1]:
        table = table.get(name)
        if not isinstance(table, dict):
            return
    last = path[-1]
    if last in table:
        del table[last]
    elif "." in last:
        _remove(table, last.split("."))
