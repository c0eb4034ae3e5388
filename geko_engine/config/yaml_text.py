"""YAML texts that a person or a stranger wrote, as plain values: bounded in length, depth and number of values."""

from __future__ import annotations

from typing import Any

import yaml

from geko_engine.exceptions import ConfigError

MAX_TEXT = 100_000  # characters; every setting with its comments takes a tenth of it
MAX_VALUES = 10_000  # aliases followed, as a few lines of them can stand for billions
MAX_NESTED = 20


def parse_yaml(text: str) -> Any:
    """The values of a YAML text. Raises ConfigError with what is wrong, without the name of its source."""
    if len(text) > MAX_TEXT:
        raise ConfigError(
            f"A configuration has at most {MAX_TEXT:,} characters, but this has {len(text):,}: give only settings."
        )
    try:
        values = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ConfigError(f"This is not valid YAML: {_first_line(error)}{_place(error)}.") from error
    except RecursionError as error:
        raise _too_much() from error
    except ConfigError:
        raise
    except ValueError as error:  # a date that does not exist, or a number of thousands of digits
        raise ConfigError(f"This YAML has a value that cannot be read: {_first_line(error)}.") from error
    _check_size(values)
    return values


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that has a key twice: the loader of the library would keep the last value in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                raise ConfigError(
                    f"The key {key.value!r} stands in lines {lines[key.value]} and {key.start_mark.line + 1} of the same "
                    "section: keep one of them."
                )
            if isinstance(key, yaml.ScalarNode):
                lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _check_size(values: Any) -> None:
    """Raise ConfigError for more than any configuration has, without building it."""
    level, count = [values], 0
    for _ in range(MAX_NESTED):
        level = [
            item
            for parent in level
            if isinstance(parent, dict | list)
            for item in ((*parent.values(), *parent.keys()) if isinstance(parent, dict) else parent)
        ]
        count += len(level)
        if not level:
            return
        if count > MAX_VALUES:
            break
    raise _too_much()


def _too_much() -> ConfigError:
    return ConfigError(
        f"This YAML is no configuration: it has more than {MAX_VALUES:,} values, or more than {MAX_NESTED} levels. "
        "Give only settings."
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _place(error: yaml.YAMLError) -> str:
    """What is wrong and in which line, where the parser says it."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return ""
    said = f": {problem}" if problem and problem != _first_line(error) else ""
    return f" (line {mark.line + 1}{said})"
