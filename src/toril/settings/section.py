"""What all sections of the settings share: they read the environment and nothing else, and errors name variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from toril.errors import ConfigError
from toril.kernel.durations import seconds, size_bytes


def _or_value_error(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        try:
            return convert(value)
        except ConfigError as error:
            # The variable stands before it, and what was got after it, as in every error of a section.
            raise ValueError(str(error).partition(": ")[2].rpartition(", got ")[0]) from None

    return checked


Seconds = Annotated[float, BeforeValidator(_or_value_error(seconds))]
Bytes = Annotated[int, BeforeValidator(_or_value_error(size_bytes)), Field(ge=1)]


class _OtherNames(PydanticBaseSettingsSource):
    """What a section reads from names that other applications use."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return self.settings_cls.other_names() if issubclass(self.settings_cls, Section) else {}


class Section(BaseSettings):
    """Settings that read the environment and nothing else; an error names the variables."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, self.model_config.get("env_prefix", ""))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, _OtherNames(settings_cls))

    @classmethod
    def other_names(cls) -> dict[str, Any]:
        """Options that variables of other names give; the section's own variables win. Raises ConfigError."""
        return {}


def is_true(value: str | None) -> bool:
    """Whether a variable explicitly says yes."""
    return value is not None and value.strip().lower() in ("1", "true", "yes", "on")


def whole_number(name: str, text: str, expected: str) -> int:
    """The number that an environment variable holds. Raises ConfigError naming it and what was `expected`."""
    if not (text.strip().isascii() and text.strip().isdigit() and len(text) < 10):
        raise ConfigError(f"{name}: expected {expected}, got {text!r}.")
    return int(text)


def _explain(error: ValidationError, prefix: str) -> str:
    problems = []
    for detail in error.errors(include_url=False):
        name = prefix + "_".join(str(part) for part in detail["loc"]).upper()
        problems.append(f"{name}: {detail['msg'].removeprefix('Value error, ')}, got {detail['input']!r}.")
    return " ".join(problems)
