"""Whether settings are what they must be: said when something is built, and by their names."""

from collections.abc import Mapping, Sequence

from agentflow.errors import ConfigError


def check_flags(owner: str, /, **given: object) -> None:
    """Check settings that are on or off.

    Raises:
        ConfigError: One is neither `True` nor `False`.
    """
    for name, value in given.items():
        if value is not True and value is not False:
            raise ConfigError(f"{owner}: {name} must be True or False, not {value!r}")


def check_texts(owner: str, /, **given: object) -> None:
    """Check settings that are words.

    Raises:
        ConfigError: One is no string.
    """
    for name, value in given.items():
        if not isinstance(value, str):
            raise ConfigError(f"{owner}: {name} must be text, not {value!r}")


def check_functions(owner: str, /, **given: object) -> None:
    """Check settings that are called.

    Raises:
        ConfigError: One can't be.
    """
    for name, value in given.items():
        if not callable(value):
            raise ConfigError(f"{owner}: {name} must be a function, not {value!r}")


def check_mappings(owner: str, /, **given: object) -> None:
    """Check settings that are values by their names, or `None`.

    Raises:
        ConfigError: One is something else.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"{owner}: {name} must be values by their names, a dict, not {value!r}")


def check_kind(owner: str, kind: type, /, **given: object) -> None:
    """Check settings that are an object of one kind, or `None`.

    Raises:
        ConfigError: One is something else.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{owner}: {name} must be {kind.__name__}(...) or None, not {value!r}")


def check_whole(owner: str, /, *, least: int = 1, **given: object) -> None:
    """Check settings that count something.

    Raises:
        ConfigError: One is no whole number, or too small.
    """
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{owner}: {name} must be a whole number of at least {least}, not {value!r}")


def check_names(owner: str, setting: str, value: object, *, lone: bool = False) -> tuple[str, ...]:
    """`value`, if it is a list of texts; where a `lone` text is understood, a list of that.

    Raises:
        ConfigError: It is something else.
    """
    if lone and isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not all(isinstance(x, str) for x in value):
        raise ConfigError(f"{owner}: {setting} must be a list of texts, not {value!r}")
    return tuple(value)
