"""The assistant's answers in a rendered conversation: where each begins and ends, so that just they are learned.

Three ways, the first that shows every answer:

1. the template's own generation mask;
2. in the rendering of the whole conversation: an answer begins where the rendering of the turns before it ends, as at
   inference, and ends with the token that the template ends an answer with;
3. one sample for each answer, as inference sees it, where the template renders earlier answers differently.
"""

from __future__ import annotations

import json
from typing import Any

from geko_engine.data.formats.base import Rendering, Segment, Turn, UnusableRow
from geko_engine.data.formats.chat_template import ANSWER, REASONING, ChatTemplate, common_length
from geko_engine.data.formats.turns import (
    ASSISTANT,
    CLOSE,
    NOT_LEARNT,
    OPEN,
    Dialogue,
    answers_of,
    reasoning_and_answer,
    written_calls,
)

Span = tuple[int, int]
OUR_KEYS = ("role", "content", "tool_calls", "tool_call_id")
MERGED_SYSTEM = "whose system turn stands before the first question, because the chat template takes none"
MERGED_TURNS = "with several turns of the user in a row, which the chat template takes as one"
CALLS_AS_TEXT = "with tool calls that are learned as JSON text, because the chat template knows none"
HIDDEN_TOOLS = "with descriptions of tools, which the chat template does not show"
HIDDEN_TURN = "with a turn of the {role} that the chat template does not show"
HIDDEN_REASONING = "with reasoning that is not learned, because the chat template does not show it"
HIDDEN_ANSWER = "with an answer that is not learned, because the chat template does not show it"
UNREAD_KEY = "with the turn key {key!r}, which is not read"
ADDED = "whose answers begin with {text!r}, which the chat template adds and which is learned"
CLOSED = "whose answers begin with {text!r}, because the chat template opens a thought and the row has none"
SPLIT = "of which every answer is a sample of its own, because the chat template renders earlier answers differently"
SPLIT_ENDS = "of which every answer is a sample of its own, because the chat template marks no end of an answer"
PREFILLED = "in which the assistant answers otherwise than the chat template begins an answer"


def render_dialogue(dialogue: Dialogue, tokenizer: Any) -> list[Rendering]:
    """The samples that a conversation makes: one, or one for each answer.

    Args:
        dialogue: the conversation; it is changed to what the template can render.
        tokenizer: has a chat template.

    Raises:
        UnusableRow: when no answer can be learned, with the reason.
    """
    _refuse_silence(dialogue)
    template = ChatTemplate.of(tokenizer)
    tools = dialogue.tools  # kept with the row, also where the template does not show them
    fit(dialogue, template)
    answers = dialogue.answers()
    if len(answers) < len(answers_of(dialogue.turns)):
        dialogue.notes.append(NOT_LEARNT)
    finder = _Finder(dialogue, template, tokenizer.eos_token or "")
    whole = finder.whole(answers)
    samples = [whole] if whole else [found for index in answers if (found := finder.alone(index))]
    if not samples:
        raise UnusableRow("the chat template does not show the answers of the assistant as they stand in the row")
    if whole is None and len(answers) > 1:
        dialogue.remarks.append(SPLIT if template.end else SPLIT_ENDS)
        dialogue.notes += [HIDDEN_ANSWER] if len(samples) < len(answers) else []
    notes, remarks = tuple(dict.fromkeys(dialogue.notes)), tuple(dict.fromkeys(dialogue.remarks))
    return [Rendering(sample.segments, sample.turns, notes, remarks, tools) for sample in samples]


def _refuse_silence(dialogue: Dialogue) -> None:
    if dialogue.answers():
        return
    if answers_of(dialogue.turns):
        raise UnusableRow("none of its answers is to be learned (weight, train or loss)")
    roles = ", ".join(dict.fromkeys(str(turn["role"]) for turn in dialogue.turns)) or "none"
    raise UnusableRow(f"the conversation has no answer of the assistant; its roles are: {roles}")


class _Finder:
    """Finds the answers of one conversation.

    Args:
        dialogue: as the template can take it; notes are added to it.
        template: renders it.
        end_of_text: the tokenizer's own end, for templates that end no answer.
    """

    def __init__(self, dialogue: Dialogue, template: ChatTemplate, end_of_text: str) -> None:
        self._dialogue, self._template, self._end_of_text = dialogue, template, end_of_text
        self._end = template.end

    def whole(self, answers: list[int]) -> Rendering | None:
        """The whole conversation with all `answers` learnt; None when one of them does not stand in it as it would alone."""
        upto = answers[-1] + 1  # what comes after the last answer is not learned from
        text = self._render(upto)
        self._note_hidden(text, upto)
        if len(answers) > 1 and not self._end and self._end_of_text:
            return None  # the end of text can stand once in a sample only, after its last answer
        spans = self._spans(text, upto, answers)
        return self._sample(text, spans, upto, answers) if spans else None

    def alone(self, index: int) -> Rendering | None:
        """The conversation up to answer `index`, which alone is learned, as inference sees it; None when it is not shown."""
        upto = index + 1
        text = self._render(upto)
        spans = self._spans(text, upto, [index])
        if spans is None:
            text, spans = self._continued(text, index)
        return self._sample(text, spans, upto, [index]) if spans else None

    def _spans(self, text: str, upto: int, answers: list[int]) -> list[Span] | None:
        noted, remarked = len(self._dialogue.notes), len(self._dialogue.remarks)
        for find in (self._masked, self._located):
            spans = find(text, upto, answers)
            if spans is not None:
                return spans
            del self._dialogue.notes[noted:], self._dialogue.remarks[remarked:]
        return None

    def _render(self, upto: int, *, begin: bool = False) -> str:
        return self._template.render(self._dialogue.turns[:upto], self._dialogue.tools, begin=begin)

    def _note_hidden(self, text: str, upto: int) -> None:
        for turn in self._dialogue.turns[:upto]:
            if turn["role"] != ASSISTANT and not _shows(text, turn["content"]):
                self._dialogue.notes.append(HIDDEN_TURN.format(role=turn["role"]))

    def _masked(self, text: str, upto: int, answers: list[int]) -> list[Span] | None:
        """Where the template's own generation mask has the answers; None when it has none, or not all of them."""
        masks = self._template.masked(self._dialogue.turns[:upto], self._dialogue.tools)
        spoken = [i for i, turn in enumerate(self._dialogue.turns[:upto]) if turn["role"] == ASSISTANT]
        if len(masks) != len(spoken):
            return None
        spans = []
        for index, (begin, _) in zip(spoken, masks, strict=True):
            if index in answers:
                end = self._end_of(text, begin, index)
                if end is None:
                    return None
                spans.append((begin, end))
        return spans

    def _located(self, text: str, upto: int, answers: list[int]) -> list[Span] | None:
        """Where the answers are in `text`; None when one begins otherwise there than when the model is asked for it."""
        spans = []
        for index in answers:
            begin = 0
            if index:
                before = self._render(index, begin=True)
                if not text.startswith(before):
                    return None
                begin = len(before)
            end = self._end_of(text, begin, index)
            if end is None:
                return None
            spans.append((begin, end))
        return spans

    def _continued(self, text: str, index: int) -> tuple[str, list[Span] | None]:
        """What the model is given when it is asked for answer `index`, and the answer behind it."""
        before = self._render(index, begin=True) if index else ""
        # An answer may itself begin like what the template opens: another answer shows where the header ends.
        turns = self._dialogue.turns
        probe = self._template.render([*turns[:index], {"role": ASSISTANT, "content": ANSWER}], self._dialogue.tools)
        shared = min(common_length(before, text), common_length(before, probe))
        opened = before[shared:].strip()
        thought, said = reasoning_and_answer(turns[index])
        begin = text.find(said, shared) if said else shared
        end = self._end_of(text, begin, index, thought="") if begin >= 0 else None
        if end is None:
            return text, None
        answer = text[begin:end]
        if opened.endswith(OPEN):
            answer = f"{thought}\n{CLOSE}\n\n{answer}".lstrip()
            self._dialogue.remarks += [] if thought else [CLOSED.format(text=CLOSE)]
        elif opened and not opened.endswith(CLOSE):
            self._dialogue.notes.append(PREFILLED)
            return text, [(begin, end)]
        elif thought:
            self._dialogue.notes.append(HIDDEN_REASONING)
        return before + answer, [(len(before), len(before) + len(answer))]

    def _end_of(self, text: str, begin: int, index: int, thought: str | None = None) -> int | None:
        """The end of answer `index`, which begins at `begin`; None when not all of it is there."""
        turn = self._dialogue.turns[index]
        thinks, said = reasoning_and_answer(turn)
        thinks = thinks if thought is None else thought
        at = begin
        if thinks:
            found = self._find(text, thinks, at)
            if found >= 0 and (self._end or found <= text.find(said, at)):
                at = found + len(thinks)
            elif thinks in str(turn["content"]) or self._template.shows_reasoning:
                return None
            else:
                self._dialogue.notes.append(HIDDEN_REASONING)
        calls = [call["function"]["name"] for call in turn.get("tool_calls", [])]
        for number, part in enumerate([said, *calls] if said else calls):
            found = self._find(text, part, at)
            if found < 0:
                return None
            if number == 0 and at == begin:
                self._note_added(text[begin:found], is_call=not said)
            at = found + len(part)
        for end in (self._end, self._end_of_text if index == len(self._dialogue.turns) - 1 else ""):
            stop = text.find(end, at) if end else -1
            if stop >= 0:
                return stop + len(end)
        return at

    def _find(self, text: str, part: str, begin: int) -> int:
        """Where `part` stands in the answer that begins at `begin`; -1 where it stands behind its end, or nowhere."""
        found = text.find(part, begin)
        return -1 if self._end and found >= 0 and self._end in text[begin:found] else found

    def _note_added(self, text: str, *, is_call: bool) -> None:
        """What stands between the beginning of an answer and its first words; a call is always put into some words."""
        text = text[: text.rfind(CLOSE) + len(CLOSE)] if is_call else text
        if CLOSE in text or (text.strip() and not is_call):
            self._dialogue.remarks.append(ADDED.format(text=text.strip()))

    def _sample(self, text: str, spans: list[Span], upto: int, answers: list[int]) -> Rendering:
        begin, end = spans[-1]
        ends = tuple(token for token in (self._end, self._end_of_text) if token)
        if ends and not text[begin:end].endswith(ends):
            text = text[:end] + ends[-1]  # the template marks no end: the tokenizer's own is learned
            spans = [*spans[:-1], (begin, len(text))]
        turns = [
            {**turn, "weight": 0} if turn["role"] == ASSISTANT and index not in answers else turn
            for index, turn in enumerate(self._dialogue.turns[:upto])
        ]
        return Rendering(_pieces(text, spans), turns)


def _pieces(text: str, spans: list[Span]) -> list[Segment]:
    pieces: list[Segment] = []
    last = 0
    for begin, end in spans:
        pieces += [(text[last:begin], False), (text[begin:end], True)]
        last = end
    return [piece for piece in [*pieces, (text[last:], False)] if piece[0]]


def _shows(text: str, part: str) -> bool:
    """Whether `part` stands in `text`, spaces and line breaks aside."""
    return part.strip() in text or "".join(part.split()) in "".join(text.split())


# ---------------------------------------------------------------- what the template can take


def fit(dialogue: Dialogue, template: ChatTemplate) -> None:
    """Change the conversation to what the template can render, with a note of each change."""
    turns = dialogue.turns
    if any("tool_calls" in turn for turn in turns):
        _fit_calls(dialogue, template)
    if turns[0]["role"] == "system" and template.merges_system:
        _merge_system(dialogue)
    if template.merges_users:
        _merge_users(dialogue)
    if dialogue.tools and not template.shows_tools:
        dialogue.notes.append(HIDDEN_TOOLS)
        dialogue.tools = None
    known = {*OUR_KEYS, *REASONING, *template.names}
    for key in dict.fromkeys(key for turn in turns for key in turn if key not in known):
        dialogue.notes.append(UNREAD_KEY.format(key=key))
    for turn in dialogue.turns:
        if turn["role"] == ASSISTANT:
            turn["content"] = _without_end(str(turn["content"]), template.end)


def _without_end(text: str, end: str) -> str:
    """An answer without the ends that it brings along: the template writes its own."""
    while end and text.rstrip().endswith(end):
        text = text.rstrip().removesuffix(end)
    return text


def _fit_calls(dialogue: Dialogue, template: ChatTemplate) -> None:
    if not template.shows_calls:
        for number, turn in enumerate(dialogue.turns):
            if "tool_calls" in turn:
                text = dialogue.calls.get(number) or written_calls(turn)
                turn["content"] = "\n".join(part for part in (turn["content"], text) if part)
                del turn["tool_calls"]
        dialogue.notes.append(CALLS_AS_TEXT)
    elif template.takes_arguments_as_text:
        for turn in dialogue.turns:
            for call in turn.get("tool_calls", []):
                arguments = call["function"]["arguments"]
                if not isinstance(arguments, str):
                    call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)


def _merge_system(dialogue: Dialogue) -> None:
    rules, *turns = dialogue.turns
    if turns and turns[0]["role"] == "user":
        turns[0] = {**turns[0], "content": "\n\n".join(p for p in (rules["content"], turns[0]["content"]) if p)}
        dialogue.turns, dialogue.learnt = turns, dialogue.learnt[1:]
        dialogue.remarks.append(MERGED_SYSTEM)


def _merge_users(dialogue: Dialogue) -> None:
    turns: list[Turn] = []
    learnt: list[bool] = []
    for turn, flag in zip(dialogue.turns, dialogue.learnt, strict=True):
        if turns and turn["role"] == turns[-1]["role"] == "user":
            turns[-1] = {**turns[-1], "content": "\n\n".join((turns[-1]["content"], turn["content"]))}
        else:
            turns.append(turn)
            learnt.append(flag)
    if len(turns) < len(dialogue.turns):
        dialogue.turns, dialogue.learnt = turns, learnt
        dialogue.remarks.append(MERGED_TURNS)
