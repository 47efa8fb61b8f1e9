"""The user's own settings: one TOML file in the platform's configuration folder, a table for each subject."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from sidestep_core.errors import ConfigError, UnknownName
from sidestep_core.options import Option, config, option, options_of

CONFIG_VARIABLE = "SIDESTEP_CONFIG_DIR"
DATA_VARIABLE = "SIDESTEP_DATA_DIR"
CACHE_VARIABLE = "SIDESTEP_CACHE_DIR"
FILE_NAME = "settings.toml"


@config
class PathSettings:
    """Folders used when a command names none."""

    checkpoint_dir: Path | None = option(
        default=None, help="Folder of the ACE-Step models, the VAE and the text encoder."
    )
    audio_dir: Path | None = option(default=None, help="Folder of songs.")
    tensors_dir: Path | None = option(default=None, help="Folder under which tensor sets are made.")
    adapters_dir: Path | None = option(default=None, help="Folder under which runs are made.")


@config
class PluginSettings:
    """Which plugins are not loaded."""

    disabled: tuple[str, ...] = option(
        default=(), help="Plugins or distributions that are not imported; * is every third-party one."
    )


@config
class ProviderSettings:
    """Who describes songs when a command names nobody."""

    provider: str | None = option(default=None, help="Provider of captions.")
    lyrics_provider: str | None = option(default=None, help="Provider of lyrics.")
    metadata_provider: str | None = option(default=None, help="Provider of genre, tempo, key and time signature.")


TABLES: Mapping[str, type] = {"paths": PathSettings, "plugins": PluginSettings, "captions": ProviderSettings}
PROVIDERS = "providers"


def config_folder() -> Path:
    """Return the folder of settings and user presets, which need not exist."""
    if given := os.environ.get(CONFIG_VARIABLE):
        return Path(given)
    from platformdirs import user_config_path

    return user_config_path("sidestep", appauthor=False)


def data_folder() -> Path:
    """Return the folder of what the program notes for itself, such as which runs there are; it need not exist."""
    if given := os.environ.get(DATA_VARIABLE):
        return Path(given)
    from platformdirs import user_data_path

    return user_data_path("sidestep", appauthor=False)


def cache_folder() -> Path:
    """Return the folder of what can be made again at any time; it need not exist."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    from platformdirs import user_cache_path

    return user_cache_path("sidestep", appauthor=False)


@attrs.frozen(kw_only=True)
class Setting:
    """One setting, where it belongs and what it is set to (None when not set)."""

    table: str
    option: Option
    value: Any

    @property
    def key(self) -> str:
        """What the command line calls it."""
        return self.option.name


class Settings:
    """Values of the settings file, over the defaults. Tables of other packages are kept as they are."""

    def __init__(self, path: Path, tables: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._tables: dict[str, dict[str, Any]] = {name: dict(table) for name, table in (tables or {}).items()}

    @classmethod
    def load(cls, path: Path | None = None) -> Settings:
        """Read the settings file; a missing one is empty.

        Raises:
            ConfigError: it is not TOML, or a value has the wrong type.
        """
        path = path or config_folder() / FILE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls(path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"settings file '{path}' cannot be read: {error}") from error
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"settings file '{path}' is not valid TOML: {error}") from error
        if loose := [name for name, table in tables.items() if not isinstance(table, dict)]:
            raise ConfigError(f"settings file '{path}': {loose[0]!r} must stand in a table such as [paths]")
        if loose := [name for name, table in tables.get(PROVIDERS, {}).items() if not isinstance(table, dict)]:
            where = f"[{PROVIDERS}.{loose[0]}]"
            raise ConfigError(f"settings file '{path}': {loose[0]!r} must stand in a table such as {where}")
        settings = cls(path, tables)
        settings._check()
        return settings

    def items(self) -> Iterator[Setting]:
        """Yield every setting that exists, set or not."""
        for table, config_type in TABLES.items():
            for declared in options_of(config_type):
                yield Setting(table=table, option=declared, value=self._tables.get(table, {}).get(declared.name))

    def get(self, key: str) -> Any:
        """Return a setting's value as declared (a `Path` where it is one), or its default."""
        setting = self._find(key)
        if setting.value is None:
            return setting.option.default
        if setting.option.many:
            return tuple(setting.value)
        return setting.option.type(setting.value)

    def set(self, key: str, text: str) -> None:
        """Set and save one setting from text; several values are separated by commas.

        Raises:
            UnknownName: there is no such setting.
            ConfigError: the text is not a value it can have.
        """
        setting = self._find(key)
        self._tables.setdefault(setting.table, {})[setting.key] = _value(key, setting.option, text)
        self._check()
        self._save()

    def clear(self, key: str) -> None:
        """Remove and save one setting."""
        setting = self._find(key)
        self._tables.get(setting.table, {}).pop(setting.key, None)
        self._save()

    def of_provider(self, name: str) -> dict[str, Any]:
        """Return what is set of a provider's own settings."""
        return dict(self._tables.get(PROVIDERS, {}).get(name, {}))

    def of_providers(self) -> Iterator[tuple[str, Any]]:
        """Yield what is set of all providers' own settings, as `name.setting`."""
        for name, values in self._tables.get(PROVIDERS, {}).items():
            yield from ((f"{name}.{field}", value) for field, value in values.items())

    def set_of_provider(self, name: str, config_type: type | None, field: str, text: str | None) -> None:
        """Set and save one of a provider's own settings from text; None removes it.

        Raises:
            UnknownName: it has no such setting.
            ConfigError: the text is not a value it can have, or it is a secret, which stands in no file.
        """
        from sidestep_core.conversion import structure

        found = {declared.name: declared for declared in (options_of(config_type) if config_type else ())}
        if (declared := found.get(field)) is None:
            shown = ", ".join(name for name, declared in found.items() if not declared.secret)
            raise UnknownName(f"provider {name!r} has no setting {field!r}; there is {shown or 'none'}")
        if declared.secret:
            raise ConfigError(f"{name}.{field} is a secret and stands in no file; 'sidestep keys set' keeps it")
        values = {key: value for key, value in self.of_provider(name).items() if key != field}
        if text is not None:
            values[field] = _value(f"{name}.{field}", declared, text)
            structure(values, config_type or object, name)
        table = self._tables.setdefault(PROVIDERS, {})
        self._tables[PROVIDERS] = {**table, name: values} if values else {k: v for k, v in table.items() if k != name}
        self._save()

    def _find(self, key: str) -> Setting:
        for setting in self.items():
            if key in (setting.key, f"{setting.table}.{setting.key}"):
                return setting
        raise UnknownName(f"no setting {key!r}; there is {', '.join(s.key for s in self.items())}")

    def _check(self) -> None:
        from sidestep_core.conversion import structure

        for table, config_type in TABLES.items():
            try:
                structure(self._tables.get(table, {}), config_type, table)
            except ConfigError as error:
                raise ConfigError(f"settings file '{self.path}': {error}") from error

    def _save(self) -> None:
        import tomli_w

        from sidestep_core.files import write_atomic

        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, tomli_w.dumps({k: v for k, v in self._tables.items() if v}))


def _value(key: str, declared: Option, text: str) -> Any:
    """Return the value that a text stands for, as TOML holds it; one that is none stays text, which is refused."""
    if not text.strip():
        raise ConfigError(f"no value for {key!r}; 'sidestep settings clear {key}' removes what it is set to")
    if declared.many:
        return [part.strip() for part in text.split(",") if part.strip()]
    if declared.type is bool:
        return {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}.get(text, text)
    try:
        return declared.type(text) if declared.type in (int, float) else text
    except ValueError:
        return text
