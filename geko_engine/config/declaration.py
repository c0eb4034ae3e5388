"""How a setting is declared and checked. YAML, command line, form and validation all use the one declaration.

Knows dataclasses, but no models, data or screens.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from geko_engine.exceptions import ConfigError

Problem = tuple[str, str]
MAX_TEXT = 4096  # characters of a text; no path is longer
SHOWN = 200  # characters of a value in a sentence
LARGEST = 2**63 - 1  # of a whole number: what files, torch and itertools can hold


@dataclasses.dataclass(frozen=True)
class Spec:
    """The declaration of one setting.

    Attributes:
        help: what the setting does, in one short line.
        details: when to change it and what it costs, in a few sentences.
        unit: unit of the value, "" if it has none.
        minimum, maximum: inclusive bounds, None if unbounded.
        exclusive: True if the minimum itself is not allowed.
        choices: the allowed values, empty if any value of the type is allowed.
    """

    help: str
    details: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    exclusive: bool = False
    choices: tuple[Any, ...] = ()


def setting(default: Any, help: str, details: str, *, kw_only: bool = False, **rules: Any) -> Any:
    """Declare a dataclass field with its Spec.

    Args:
        default: a list or dict is copied for each instance.
        help, details: see Spec.
        kw_only: keep the field out of the positional arguments, so that those stay as gekolib had them.
        rules: the other attributes of Spec.
    """
    metadata = {"spec": Spec(help, details, **rules)}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata, kw_only=kw_only)
    return dataclasses.field(default=default, metadata=metadata, kw_only=kw_only)


def spec_of(cls: type, name: str) -> Spec:
    """The Spec of the field `name` of the settings class `cls`. Raises KeyError if there is none."""
    for field in dataclasses.fields(cls):
        if field.name == name:
            spec: Spec = field.metadata["spec"]
            return spec
    raise KeyError(name)


def is_optional(cls: type, name: str) -> bool:
    """Whether the setting `name` may be empty."""
    return type(None) in _options(typing.get_type_hints(cls)[name])


def check(section: Any, prefix: str = "") -> Iterator[Problem]:
    """Yield (dotted field, message) for each invalid value of a settings instance.

    Args:
        section: instance of a settings class.
        prefix: put before the field names, such as "training.".
    """
    hints = typing.get_type_hints(type(section))
    for field in dataclasses.fields(section):
        spec = field.metadata.get("spec")
        if spec is None:
            continue
        value = getattr(section, field.name)
        message = _violation(value, hints[field.name], spec)
        if message:
            yield prefix + field.name, message


def build(cls: type, values: Mapping[str, Any], prefix: str, problems: list[Problem]) -> Any:
    """An instance of the settings class `cls` from plain values.

    Args:
        cls: settings class.
        values: key -> value, as from YAML.
        prefix: put before the field names in `problems`.
        problems: receives (dotted field, message) for unknown keys and unreadable values, which keep their default.
    """
    hints = typing.get_type_hints(cls)
    specs: dict[str, Spec] = {f.name: f.metadata["spec"] for f in dataclasses.fields(cls) if f.metadata.get("spec")}
    known = set(specs)
    accepted: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            name = key if isinstance(key, str) else shown(key)
            problems.append((prefix + name, unknown_key(name, known)))
            continue
        try:
            accepted[key] = convert(_on_or_off(value, specs[key]), hints[key])
        except (TypeError, ValueError):
            problems.append((prefix + key, _unreadable(value, hints[key])))
    return cls(**accepted)


def _on_or_off(value: Any, spec: Spec) -> Any:
    """The word that YAML read as a truth value, where it is one of the choices."""
    return ("on" if value else "off") if isinstance(value, bool) and {"on", "off"} <= set(spec.choices) else value


def unknown_key(key: str, known: set[str]) -> str:
    """The sentence for an unknown key, with the most similar known one."""
    close = difflib.get_close_matches(key[:SHOWN], known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else f" Known settings: {', '.join(sorted(known))}."
    return f"There is no setting named {shown(key)}.{hint}"


def convert(value: Any, hint: Any) -> Any:
    """`value` converted to the type `hint`: YAML reads 5e-5 as text, and a form may send "3".

    Raises:
        ValueError, TypeError: if it cannot be converted.
    """
    options = _options(hint)
    words = _words(options)
    if isinstance(value, str) and value.strip().lower() in words:
        return value.strip().lower()
    if value is None or (value == "" and type(None) in options):
        if type(None) in options:
            return None
        raise ValueError(value)
    target = _main_type(hint)
    origin = typing.get_origin(target) or target
    if origin in (list, tuple):
        return _convert_sequence(value, origin, typing.get_args(target))
    if target is bool:
        return _convert_bool(value)
    if isinstance(value, bool):
        raise ValueError(value)
    if target is int:
        number = _number(value)
        if not number.is_integer():  # neither are NaN and infinities
            raise ValueError(value)
        return int(number)
    if target is float:
        return _number(value)
    if target is str and isinstance(value, list | dict):
        raise TypeError(value)
    return target(value)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError as error:  # an integer of hundreds of digits
        raise ValueError(value) from error


def _convert_sequence(value: Any, origin: type, args: tuple[Any, ...]) -> Any:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise TypeError(value)
    items = [convert(item, args[0]) for item in value]
    if origin is tuple and Ellipsis not in args and len(items) != len(args):
        raise ValueError(value)
    return origin(items)


def _convert_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if str(value).strip().lower() in words:
        return words[str(value).strip().lower()]
    raise ValueError(value)


def _words(options: tuple[Any, ...]) -> tuple[str, ...]:
    """The words that are allowed besides values of the type."""
    return tuple(
        word for option in options if typing.get_origin(option) is typing.Literal for word in typing.get_args(option)
    )


def _main_type(hint: Any) -> Any:
    """The type of a setting without None and the words that may stand in its place."""
    return next(o for o in _options(hint) if o is not type(None) and typing.get_origin(o) is not typing.Literal)


def _options(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _describe(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "yes or no (true / false)", str: "text"}
    target = _main_type(hint)
    if typing.get_origin(target) in (list, tuple):
        args = [a for a in typing.get_args(target) if a is not Ellipsis]
        count = f"{len(args)} " if typing.get_origin(target) is tuple and len(args) > 1 else ""
        return f"a list of {count}{'numbers' if args[0] in (int, float) else 'names'}"
    words = "".join(f" or {word!r}" for word in _words(_options(hint)))
    return names.get(target, f"of the type {target}") + words


def _violation(value: Any, hint: Any, spec: Spec) -> str:
    if value is None:
        return "" if type(None) in _options(hint) else _unreadable(value, hint)
    try:
        value = convert(value, hint)
    except (TypeError, ValueError):
        return _unreadable(value, hint)
    if spec.choices and value not in spec.choices:
        return f"{shown(value)} is not one of {', '.join(map(str, spec.choices))}."
    for number in value if isinstance(value, list | tuple) else (value,):
        if isinstance(number, str) and _text_violation(number):
            return _text_violation(number)
        if isinstance(number, int | float) and not isinstance(number, bool) and not _in_range(number, spec):
            return f"{_figure(number)} is out of range: give {_describe_range(spec)}."
        if isinstance(number, int) and number > LARGEST:
            return f"{number:g} is too large: give at most {LARGEST:,}."
    return ""


def _in_range(number: float, spec: Spec) -> bool:
    if number != number:  # NaN passes every comparison below
        return False
    too_low = spec.minimum is not None and (number < spec.minimum or (spec.exclusive and number == spec.minimum))
    return not too_low and not (spec.maximum is not None and number > spec.maximum)


def _unreadable(value: Any, hint: Any) -> str:
    if value is None or value == "":
        return f"A value is missing: give {_describe(hint)}."
    return f"{shown(value)} is not {_describe(hint)}."


def _text_violation(text: str) -> str:
    """Why no file and no path can hold a text, or ""."""
    if len(text) > MAX_TEXT:
        return f"A text has at most {MAX_TEXT:,} characters, but this has {len(text):,}: type it again."
    if "\0" in text:
        return f"{shown(text)} holds a NUL character: type it again."
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{shown(text)} holds half a character (a lone surrogate): type it again."
    return ""


def shown(value: Any) -> str:
    """A value for a sentence, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return f"This {type(value).__name__}"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def _describe_range(spec: Spec) -> str:
    unit = f" {spec.unit}" if spec.unit else ""
    low = "" if spec.minimum is None else f"{'more than' if spec.exclusive else 'at least'} {_figure(spec.minimum)}"
    high = "" if spec.maximum is None else f"at most {_figure(spec.maximum)}"
    return " and ".join(part for part in (low, high) if part) + unit


def _figure(number: float) -> str:
    """A number for a sentence: whole ones with all their digits, unless those are too many to read."""
    return f"{int(number):,}" if float(number).is_integer() and abs(number) < 1e15 else f"{number:g}"


def raise_problems(problems: list[Problem]) -> None:
    """Raise one ConfigError for all problems, if there are any."""
    if problems:
        raise ConfigError.from_problems(problems)
