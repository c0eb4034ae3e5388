"""A tokenizer's chat template: what it renders, what it leaves out, and which token ends an answer in it.

Knows turns, and no rows. What a template does is found out once, by rendering a few words with it.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from geko_engine.data.formats.base import Turn, UnusableRow

REASONING = ("reasoning_content", "reasoning", "thinking")
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
NAMES = re.compile(r"\.(\w+)|['\"](\w+)['\"]")
TOKEN = re.compile(r"[<\[|].*[>\]|]", re.DOTALL)  # what an added token must be like to end an answer
SYSTEM, QUESTION, ANSWER, NEXT, THOUGHT = (
    "probe of rules",
    "probe of asking",
    "probe of saying",
    "probe of more",
    "probe of thinking",
)


class Refused(UnusableRow):
    """The template raised an error; its own words are in the reason."""


class ChatTemplate:
    """The chat template of one tokenizer, as it stands now.

    Args:
        tokenizer: has a chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = weakref.proxy(tokenizer)
        self._eos = tokenizer.eos_token or ""
        template = tokenizer.chat_template
        self._source = "\n".join(template.values()) if isinstance(template, dict) else str(template)

    @classmethod
    def of(cls, tokenizer: Any) -> ChatTemplate:
        """The chat template of `tokenizer`; probed once for as long as the tokenizer does not change."""
        state = repr((tokenizer.chat_template, tokenizer.special_tokens_map))
        known = _KNOWN.get(tokenizer)
        if known is None or known[0] != state:
            known = _KNOWN[tokenizer] = (state, cls(tokenizer))
        return known[1]

    def render(self, turns: Sequence[Turn], tools: list[Any] | None = None, *, begin: bool = False) -> str:
        """The conversation as text.

        Args:
            turns: the conversation.
            tools: descriptions of the tools that the assistant may call.
            begin: whether the beginning of an answer is to stand at the end, as when the model is asked.

        Raises:
            Refused: when the template raises an error, with its own words.
        """
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    _aliased(turns), tools=tools, tokenize=False, add_generation_prompt=begin
                )
            )
        except Exception as error:  # templates raise jinja2's errors, and those of Python, with their own sentences
            raise Refused(f"the chat template refuses it: {error}") from error

    def masked(self, turns: Sequence[Turn], tools: list[Any] | None = None) -> list[tuple[int, int]]:
        """Where the template itself says that the assistant speaks: spans of characters; none where it does not say so."""
        if not GENERATION.search(self._source):
            return []
        from transformers.utils.chat_template_utils import render_jinja_template  # noqa: TID251 - with a tokenizer only

        try:
            _, found = render_jinja_template(
                [_aliased(turns)],
                tools=tools,
                chat_template=self._tokenizer.get_chat_template(None, tools),
                return_assistant_tokens_mask=True,
                **self._tokenizer.special_tokens_map,
            )
        except Exception as error:
            raise Refused(f"the chat template refuses it: {error}") from error
        return [(int(begin), int(end)) for begin, end in found[0]]

    @cached_property
    def names(self) -> frozenset[str]:
        """Every key that the template may read of a turn."""
        return frozenset(name for found in NAMES.findall(self._source) for name in found if name)

    @cached_property
    def end(self) -> str:
        """The token that ends every answer, as text; empty where the template marks no end."""
        turns = [_turn("user", QUESTION), _turn("assistant", ANSWER)]
        try:
            last = self.render(turns).rpartition(ANSWER)[2]
            inner = self.render([*turns, _turn("user", NEXT)]).rpartition(ANSWER)[2]
        except Refused:
            return self._eos
        return self._first_token(last[: common_length(last, inner)])

    @cached_property
    def beginning(self) -> str:
        """What the template writes of a short conversation; empty where it refuses it."""
        try:
            return self.render([_turn("user", QUESTION), _turn("assistant", ANSWER)])
        except Refused:
            return ""

    @cached_property
    def merges_system(self) -> bool:
        """Whether the template refuses or leaves out a system turn, which then stands before the first question."""
        turns = [_turn("user", QUESTION), _turn("assistant", ANSWER)]
        return self._shows(turns, [ANSWER]) and not self._shows([_turn("system", SYSTEM), *turns], [SYSTEM])

    @cached_property
    def merges_users(self) -> bool:
        """Whether the template refuses two turns of the user in a row."""
        turns = [_turn("user", NEXT), _turn("user", QUESTION), _turn("assistant", ANSWER)]
        return self._shows(turns[1:], [ANSWER]) and not self._shows(turns, [ANSWER])

    @cached_property
    def shows_calls(self) -> bool:
        """Whether the template renders tool calls."""
        return any(self._shows(_calling(arguments), ["probe_tool"]) for arguments in ({"a": 1}, '{"a": 1}'))

    @cached_property
    def takes_arguments_as_text(self) -> bool:
        """Whether the template joins the arguments of a call to its text as they are, instead of encoding them."""
        return not self._shows(_calling({"a": 1}), ["probe_tool"]) and self.shows_calls

    @cached_property
    def shows_tools(self) -> bool:
        """Whether the template renders the descriptions of tools."""
        tool = {"name": "probe_tool", "description": "probe", "parameters": {"type": "object", "properties": {}}}
        tools = [{"type": "function", "function": tool}]
        return self._shows([_turn("user", QUESTION)], ["probe_tool"], tools)

    @cached_property
    def shows_reasoning(self) -> bool:
        """Whether the template renders what the assistant thinks before its last answer."""
        turn = {**_turn("assistant", ANSWER), "reasoning_content": THOUGHT}
        return self._shows([_turn("user", QUESTION), turn], [THOUGHT, ANSWER])

    def _shows(self, turns: list[Turn], texts: list[str], tools: list[Any] | None = None) -> bool:
        try:
            text = self.render(turns, tools)
        except Refused:
            return False
        return all(part in text for part in texts)

    def _first_token(self, text: str) -> str:
        """The first added token in `text`, the longest where several begin there; empty where there is none."""
        added = self._tokenizer.added_tokens_decoder.values()
        names = {str(token) for token in added if token.special or TOKEN.fullmatch(str(token))} | {self._eos}
        found = [(text.find(name), -len(name), name) for name in names if name and name in text]
        return min(found)[2] if found else ""


_KNOWN: weakref.WeakKeyDictionary[Any, tuple[str, ChatTemplate]] = weakref.WeakKeyDictionary()


def common_length(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _aliased(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with what the assistant thinks under every name that templates read it by."""
    return [
        {**turn, **dict.fromkeys(REASONING, turn[REASONING[0]])} if REASONING[0] in turn else turn for turn in turns
    ]


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _calling(arguments: Any) -> list[Turn]:
    call = {"id": "call00000", "type": "function", "function": {"name": "probe_tool", "arguments": arguments}}
    return [_turn("user", QUESTION), {**_turn("assistant", ""), "tool_calls": [call]}]
