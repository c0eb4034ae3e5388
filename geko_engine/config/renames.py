"""Old names of settings and of their values: read, replaced, and reported in one sentence. The only table of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from geko_engine.config.declaration import Problem

# Both since version 2; what is on the left was written by version 1.
KEYS = {
    "data.marks": "data.row_flags",
    "data.marked": "data.flag_action",
    "geko.settled_share": "geko.stable_share",
}
VALUES: dict[str, dict[str, str]] = {
    "data.chat_template": {"true": "chat", "false": "raw"},
    "data.flag_action": {"never freeze": "never_freeze"},
    "geko.mastery": {"exact": "exact_match", "relative": "below_mean_loss"},
}
OnRenamed = Callable[[str], None]


def upgrade(values: Mapping[str, Any], problems: list[Problem]) -> tuple[dict[str, Any], str]:
    """Nested values of a run under today's names.

    Args:
        values: plain nested values, as YAML holds them; left unchanged.
        problems: receives one entry for each setting that is given under its old and its new name.

    Returns:
        A copy with every old name replaced, and a sentence that names the replaced ones ("" when there were none).
    """
    result = {name: dict(inner) if isinstance(inner, Mapping) else inner for name, inner in values.items()}
    renamed = []
    for old, new in KEYS.items():
        section, old_name, new_name = (*old.split("."), new.split(".")[1])
        inner = result.get(section)
        if not isinstance(inner, dict) or old_name not in inner:
            continue
        value = inner.pop(old_name)
        if new_name in inner:
            problems.append((old, f"{old} is the old name of {new}, which is given too: remove {old}."))
            continue
        inner[new_name] = value
        renamed.append(f"{old} is now {new}")
    for key, replacements in VALUES.items():
        section, name = key.split(".")
        inner = result.get(section)
        if not isinstance(inner, dict):
            continue
        value = inner.get(name)
        value = str(value).lower() if isinstance(value, bool) else value
        if isinstance(value, str) and value in replacements:
            inner[name] = replacements[value]
            renamed.append(f"{key}: {value} is now {key}: {replacements[value]}")
    return result, f"Old names of settings were read: {'; '.join(renamed)}." if renamed else ""


def same_setting(key: str) -> set[str]:
    """The other names of the setting with the dotted name `key`, old or new."""
    new = KEYS.get(key, key)
    return {new, *(old for old, name in KEYS.items() if name == new)} - {key}


def warn(sentence: str) -> None:
    """The default of `on_renamed`: a FutureWarning, which Python prints once to standard error."""
    warnings.warn(sentence, FutureWarning, stacklevel=3)  # the line that called from_dict


def ignore(sentence: str) -> None:
    """An `on_renamed` for runs that are only shown: their files were not written by hand."""
