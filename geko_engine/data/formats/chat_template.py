"""A conversation through a tokenizer's chat template, and where the assistant's answers are in the rendered text.

Knows turns, and no rows.
"""

from __future__ import annotations

from typing import Any

from geko_engine.data.formats.base import Segment, Turn, UnusableRow

# For tokenizers that bring none; needs no special token but the end of sequence, and is saved with the model.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] }}{{ eos_token }}\n"
    "{% else %}{{ message['role'].capitalize() }}: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def answers_of(turns: list[Turn]) -> list[int]:
    """Which turns the assistant says something in."""
    spoken = (i for i, turn in enumerate(turns) if turn["role"] == "assistant")
    return [i for i in spoken if turns[i]["content"] or turns[i].get("tool_calls")]


def render_turns(turns: list[Turn], tokenizer: Any) -> list[Segment]:
    """Cut the rendered conversation where the assistant begins and ends to speak, as at inference.

    A template may render earlier turns otherwise than the last one (some drop their reasoning): then only the last
    answer is learnt.
    """
    answers = answers_of(turns)
    if not answers:
        raise UnusableRow("the conversation has no answer of the assistant")
    turns = turns[: answers[-1] + 1]  # what comes after the last answer teaches nothing
    whole = apply_template(turns, tokenizer)
    for chosen in (answers, answers[-1:]):
        cuts = _cuts(turns, chosen, whole, tokenizer)
        if cuts is not None:
            break
    else:
        raise UnusableRow("the chat template does not show where the assistant's answer begins")
    pieces: list[Segment] = []
    last = 0
    for begin, end in cuts:
        # What a template sets behind the end of the turn, a line break mostly, is not the answer any more.
        stop = tokenizer.eos_token
        ended = whole.rfind(stop, begin, end) + len(stop) if stop and stop in whole[begin:end] else end
        pieces += [(whole[last:begin], False), (whole[begin:ended], True)]
        last = ended
    return [piece for piece in [*pieces, (whole[last:], False)] if piece[0]]


def _cuts(turns: list[Turn], answers: list[int], whole: str, tokenizer: Any) -> list[tuple[int, int]] | None:
    """Where each answer begins and ends in `whole`, or None when its beginning renders otherwise alone."""
    found = []
    for index in answers:
        before = apply_template(turns[:index], tokenizer, begin=True) if index else ""
        until = whole if index == len(turns) - 1 else apply_template(turns[: index + 1], tokenizer)
        if not whole.startswith(before) or not whole.startswith(until) or len(before) > len(until):
            return None
        found.append((len(before), len(until)))
    return found


def apply_template(turns: list[Turn], tokenizer: Any, *, begin: bool = False) -> str:
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begin))
    except Exception as error:  # templates raise jinja2's errors with their own sentences
        raise UnusableRow(f"the chat template refuses it: {error}") from error
