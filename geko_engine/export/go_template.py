"""A chat template in Ollama's Go syntax, derived from how the Jinja template renders, and rendered again to prove it.

Only a few actions of Go's text/template are written, and `render` knows just these:

    {{ range .Messages }} {{ if eq .Role "user" }} {{ else if ... }} {{ if not $open }} {{ end }} {{ .Content }} {{ .Prompt }}
    {{ $open := false }} {{ $open = true }}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Messages = Sequence[tuple[str, str]]  # (role, content)
Jinja = Callable[[Messages, bool], str]  # of the messages, and whether the beginning of an answer stands at the end
ASK, SAY, NEXT, RULES = "probe of asking", "probe of saying", "probe of more", "probe of rules"
ACTION = re.compile(r"\{\{ (.*?) \}\}", re.DOTALL)
OPENERS, CLOSERS = "<[", ">]"


@dataclass(frozen=True)
class GoTemplate:
    """A template for Ollama.

    Attributes:
        text: in Go's syntax.
        system: what the chat template says where a conversation has no system turn; "" for nothing.
    """

    text: str
    system: str = ""

    def render(self, messages: Messages) -> str:
        """The text that Ollama gives to the model, which adds `system` where the messages bring none."""
        if self.system and (not messages or messages[0][0] != "system"):
            messages = [("system", self.system), *messages]
        return render(self.text, messages)


class Underivable(Exception):
    """The chat template does more than a Go template of these actions can; the reason completes "it ..."."""


def derive(jinja: Jinja, begin: str = "") -> GoTemplate:
    """The Go template that renders conversations as `jinja` does, as far as three short ones show; `proved` shows the rest.

    Args:
        jinja: renders messages by the chat template.
        begin: what the tokenizer itself begins every text with; Ollama adds it, so it is left out.

    Raises:
        Underivable: when the parts of the renderings do not fit together.
    """

    def parts(messages: Messages, *, answer: bool = True) -> list[str]:
        return _around(jinja(messages, answer).removeprefix(begin), [content for _, content in messages])

    head, to_answer, to_next, tail = parts([("user", ASK), ("assistant", SAY), ("user", NEXT)])
    after_answer = parts([("user", ASK), ("assistant", SAY)], answer=False)[-1]
    after_user = parts([("user", ASK)], answer=False)[-1]
    rules, rules_to_user, _ = parts([("system", RULES), ("user", ASK)])
    answer_end = _whole(_shared(after_answer, to_next))
    user_begin = to_next.removeprefix(answer_end)
    user_end = _whole(_shared(_shared(after_user, tail), to_answer))
    answer_begin = to_answer.removeprefix(user_end)
    lead = _without_end(head, user_begin)
    if "{{" in "".join((lead, user_begin, user_end, answer_begin, answer_end, rules, rules_to_user, tail)):
        raise Underivable("writes {{, which begins an action in Ollama's templates")
    roles = {"user": (user_begin, user_end), "assistant": (answer_begin, answer_end)}
    if rules == head and not rules_to_user.endswith(user_begin):
        return GoTemplate(_merging(lead, roles, rules_to_user, tail.removeprefix(user_end)))
    roles = {"system": (rules, _without_end(rules_to_user, user_begin)), **roles}
    said = _default_system(lead, *roles["system"]) if lead else ""
    return GoTemplate(_plain("" if said else lead, roles, tail.removeprefix(user_end)), said)


def proved(template: GoTemplate, jinja: Jinja, begin: str, conversations: Sequence[Messages]) -> bool:
    """Whether the template renders each conversation exactly as the chat template does."""
    return all(template.render(one) == jinja(one, True).removeprefix(begin) for one in conversations)


def render(text: str, messages: Messages, prompt: str = "") -> str:
    """What Go's text/template makes of `text`, for the actions above."""
    pieces = ACTION.split(text)  # text and action in turn
    out: list[str] = []
    _run(
        pieces, 0, out, {"messages": messages, "prompt": prompt, "role": "", "content": "", "open": False}, active=True
    )
    return "".join(out)


def _run(pieces: list[str], at: int, out: list[str], scope: dict[str, object], *, active: bool) -> int:
    """Do everything from piece `at` to the end of this block; returns the place of its {{ end }} or {{ else }}."""
    while at < len(pieces):
        if at % 2 == 0:
            out.extend([pieces[at]] if active else [])
            at += 1
            continue
        action = pieces[at]
        if action == "end" or action.startswith("else"):
            return at
        if action == "range .Messages":
            at = _range(pieces, at + 1, out, scope, active=active)
        elif action.startswith("if "):
            at = _if(pieces, at, out, scope, active=active)
        else:
            _do(action, out, scope, active=active)
        at += 1
    return at


def _range(pieces: list[str], at: int, out: list[str], scope: dict[str, object], *, active: bool) -> int:
    messages: Messages = scope["messages"] if active else []  # type: ignore[assignment]
    end = _run(pieces, at, [], scope, active=False)
    for scope["role"], scope["content"] in messages:
        _run(pieces, at, out, scope, active=True)
    return end


def _if(pieces: list[str], at: int, out: list[str], scope: dict[str, object], *, active: bool) -> int:
    done = False
    while pieces[at] != "end":
        condition = pieces[at].removeprefix("else").strip().removeprefix("if").strip()
        here = active and not done and _holds(condition, scope)
        done = done or here
        at = _run(pieces, at + 1, out, scope, active=here)
    return at


def _holds(condition: str, scope: dict[str, object]) -> bool:
    if not condition:
        return True  # of {{ else }}
    if condition == "not $open":
        return not scope["open"]
    found = re.fullmatch(r'eq \.Role "(\w+)"', condition)
    if found is None:
        raise ValueError(condition)
    return scope["role"] == found[1]


def _do(action: str, out: list[str], scope: dict[str, object], *, active: bool) -> None:
    names = {".Content": "content", ".Prompt": "prompt"}
    values = {"$open := false": False, "$open = false": False, "$open = true": True}
    if action not in names and action not in values:
        raise ValueError(action)
    if active and action in names:
        out.append(str(scope[names[action]]))
    elif active:
        scope["open"] = values[action]


def _plain(lead: str, roles: dict[str, tuple[str, str]], tail: str) -> str:
    """Each turn between its two texts."""
    branches = [f'if eq .Role "{role}" }}}}{a}{{{{ .Content }}}}{b}' for role, (a, b) in roles.items()]
    inner = "{{ else ".join(["{{ " + branches[0], *branches[1:]])
    return f"{lead}{{{{ range .Messages }}}}{inner}{{{{ end }}}}{{{{ end }}}}{tail}"


def _merging(lead: str, roles: dict[str, tuple[str, str]], between: str, tail: str) -> str:
    """The system turn stands at the beginning of the first question."""
    (begin, end), (answer_begin, answer_end) = roles["user"], roles["assistant"]
    system = f'{{{{ if eq .Role "system" }}}}{begin}{{{{ .Content }}}}{between}{{{{ $open = true }}}}'
    user = f'{{{{ else if eq .Role "user" }}}}{{{{ if not $open }}}}{begin}{{{{ end }}}}{{{{ $open = false }}}}{{{{ .Content }}}}{end}'
    answer = f'{{{{ else if eq .Role "assistant" }}}}{answer_begin}{{{{ .Content }}}}{answer_end}'
    turns = f"{{{{ range .Messages }}}}{system}{user}{answer}{{{{ end }}}}{{{{ end }}}}"
    return f"{{{{ $open := false }}}}{lead}{turns}{tail}"


def _default_system(lead: str, begin: str, end: str) -> str:
    """What the chat template says by itself before the first question."""
    if begin and end and lead.startswith(begin) and lead.endswith(end) and len(lead) > len(begin) + len(end):
        return lead[len(begin) : len(lead) - len(end)]
    return ""


def _around(text: str, contents: Sequence[str]) -> list[str]:
    """The pieces of `text` before, between and behind `contents`."""
    found = []
    for content in contents:
        before, here, text = text.partition(content)
        if not here:
            raise Underivable("leaves out or changes a turn of the conversation")
        found.append(before)
    return [*found, text]


def _shared(one: str, other: str) -> str:
    count = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:count]


def _whole(text: str) -> str:
    """`text` without the beginning of a special token at its end, such as "<|"."""
    opened = max(text.rfind(sign) for sign in OPENERS)
    return text[:opened] if opened > max(text.rfind(sign) for sign in CLOSERS) else text


def _without_end(text: str, end: str) -> str:
    if not text.endswith(end):
        raise Underivable("begins a turn of the user in several ways")
    return text.removesuffix(end)
