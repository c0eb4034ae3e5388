"""Prompts as a run's model reads them, generation token by token, and the loss of each token of a text.

Knows models, tokenizers and dataset formats, but no files, runs or processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from geko_engine.data.formats import ChatTemplate, Format, Segment, Turn, UnusableRow
from geko_engine.data.formats.answers import fit, render_dialogue
from geko_engine.data.formats.turns import Dialogue
from geko_engine.data.tokenization import encode
from geko_engine.exceptions import DataError
from geko_engine.models.loading import longest_input

INCOMPLETE = "\ufffd"  # what the first bytes of a character decode to
CONTEXT = 8  # tokens before a token that affect how it is decoded
LONGEST_SCORED = 1024  # most tokens of a text to compute losses of
ALTERNATIVES = 5  # tokens whose probability is kept at each place of an answer
OnText = Callable[[str, int], None]


@dataclass(frozen=True)
class Options:
    """How to generate; temperature 0 is greedy decoding."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class WrittenToken:
    """One token of an answer.

    Attributes:
        text: what it adds to the text; "" for all but the last token of a character.
        special: whether it is a special token, such as the end of the text, which readers do not see.
        probability: that the model gives it, whatever the temperature.
        alternatives: (text, probability) of the most likely tokens at its place, itself included, the likeliest first.
    """

    text: str
    special: bool
    probability: float
    alternatives: list[tuple[str, float]]


@dataclass(frozen=True)
class Answer:
    """A generated answer. `end` is "end of text", "limit" or "stopped"; `written` has its tokens one by one."""

    text: str
    tokens: int
    seconds: float
    end: str
    written: list[WrittenToken]


def pieces_of(prompt: str, answer: str, format: Format, tokenizer: Any) -> list[Segment]:
    """A prompt and its answer as the pieces that a row of the run's format has; without an answer, the prompt alone.

    Raises:
        DataError: when the chat template refuses it.
    """
    try:
        if not answer:
            return [(format.opening(prompt, tokenizer), False)]
        return format.render_pair(prompt, answer, tokenizer)
    except UnusableRow as error:
        raise DataError(f"This prompt cannot be rendered: {error}.") from error


def conversation_pieces(
    turns: Sequence[Turn], answer: str, tokenizer: Any, tools: list[Any] | None = None
) -> list[Segment]:
    """A conversation through the tokenizer's chat template, up to where the next answer begins; or with that answer.

    Args:
        turns: role and content of each, the last one by the user.
        answer: the next answer; "" to end where it would begin.
        tokenizer: has a chat template.
        tools: descriptions of the tools that the assistant may call.

    Raises:
        DataError: there is no chat template, or it refuses the conversation.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            "The tokenizer of this run has no chat template, so its model takes prompts and no conversation."
        )
    dialogue = Dialogue(tools=tools)
    for turn in turns:
        dialogue.say(turn["role"], turn["content"], learnt=False)
        dialogue.turns[-1] = dict(turn)  # it may have more keys, such as tool calls
    try:
        if answer:
            dialogue.say("assistant", answer)
            return render_dialogue(dialogue, tokenizer)[-1].segments
        template = ChatTemplate.of(tokenizer)
        fit(dialogue, template)
        return [(template.render(dialogue.turns, dialogue.tools, begin=True), False)]
    except UnusableRow as error:
        raise DataError(f"This conversation cannot be rendered: {error}.") from error


def prompt_ids(pieces: list[Segment], format: Format, tokenizer: Any) -> list[int]:
    """The ids of `pieces`, as they stand before an answer in training; never empty."""
    ids = encode([(text, False) for text, _ in pieces], format, tokenizer)[0]
    if not format.uses_chat_template and tokenizer.eos_token_id is not None:
        ids = ids[:-1]  # a row would end here; a prompt goes on
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return ids or [begin or 0]


def readable(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of `ids` without special tokens and surrounding spaces."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()


class StopWhen(StoppingCriteria):  # type: ignore[misc]  # transformers is not followed
    """Ends a generation once `should_stop` says so; `stopped` says whether it did."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop, self.stopped = should_stop, False

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self.stopped = self.stopped or self._should_stop()
        return torch.full((input_ids.shape[0],), self.stopped, dtype=torch.bool, device=input_ids.device)


class _Probabilities(LogitsProcessor):  # type: ignore[misc]
    """Keeps the probabilities of the step that is being decided, before temperature and top-p; changes nothing."""

    def __init__(self) -> None:
        self._logits: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._logits = scores[0]
        return scores

    def of(self, token: int) -> tuple[float, list[tuple[int, float]]]:
        """(probability of the token that was chosen, (id, probability) of the likeliest ones)."""
        assert self._logits is not None
        chances = self._logits.float().softmax(-1)
        best = chances.topk(min(ALTERNATIVES, len(chances)))
        return float(chances[token]), list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


class _Listener(BaseStreamer):  # type: ignore[misc]
    """Receives the prompt, then each token, and reports the text so far without incomplete characters."""

    def __init__(self, tokenizer: Any, on_text: OnText, probabilities: _Probabilities) -> None:
        self._tokenizer, self._on_text, self._probabilities = tokenizer, on_text, probabilities
        self.ids: list[int] = []
        self._chances: list[tuple[float, list[tuple[int, float]]]] = []
        self._prompted = False

    def put(self, value: Tensor) -> None:
        if self._prompted:
            for token in value.reshape(-1).tolist():
                self.ids.append(token)
                self._chances.append(self._probabilities.of(token))
            self._on_text(readable(self._tokenizer, self.ids).rstrip(INCOMPLETE), len(self.ids))
        self._prompted = True

    def end(self) -> None:
        """Nothing is buffered."""

    def written(self) -> list[WrittenToken]:
        """All tokens with their probabilities."""
        special, found = set(self._tokenizer.all_special_ids), []
        for place, (token, (chance, best)) in enumerate(zip(self.ids, self._chances, strict=True)):
            before = self.ids[max(0, place - CONTEXT) : place]
            others = [(added_text(self._tokenizer, before, other), share) for other, share in best]
            text = added_text(self._tokenizer, before, token)
            found.append(WrittenToken(text, token in special, chance, others))
        return found


def generate(
    model: Any, tokenizer: Any, ids: list[int], options: Options, on_text: OnText, should_stop: Callable[[], bool]
) -> Answer:
    """Generate an answer.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: of the model.
        ids: of the prompt.
        options: how to generate.
        on_text: called with (text so far, tokens so far) after each token.
        should_stop: called at each token; True ends the answer.

    Raises:
        DataError: if the prompt fills all positions of the model.
    """
    room = longest_input(model.config) - len(ids)
    if room < 1:
        raise DataError(
            f"The prompt has {len(ids):,} tokens, but the model takes at most {longest_input(model.config):,}: shorten it."
        )
    ends = end_tokens(model, tokenizer)
    torch.manual_seed(options.seed)
    stop, probabilities = StopWhen(should_stop), _Probabilities()
    listener = _Listener(tokenizer, on_text, probabilities)
    prompt = torch.tensor([ids], device=next(model.parameters()).device)
    began = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=generation_settings(options, room, ends, tokenizer.pad_token_id),
            logits_processor=LogitsProcessorList([probabilities]),
            stopping_criteria=StoppingCriteriaList([stop]),
            streamer=listener,
        )
    seconds = time.perf_counter() - began
    written = listener.ids
    ended = bool(written) and written[-1] in ends
    end = "end of text" if ended else "stopped" if stop.stopped else "limit"
    return Answer(readable(tokenizer, written), len(written), seconds, end, listener.written())


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Ids that end an answer: the tokenizer's end of sequence, which was trained, and those of the model's own config."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
    if tokenizer.chat_template:
        found.append(tokenizer.convert_tokens_to_ids(ChatTemplate.of(tokenizer).end or tokenizer.eos_token))
    return sorted({token for token in found if token is not None})


def generation_settings(options: Options, room: int, ends: list[int], pad_token_id: int | None) -> GenerationConfig:
    """All generation settings are explicit, so that base and tuned model generate in the same way.

    Args:
        room: tokens that the model can take after the prompt. ends: ids that end an answer.
    """
    drawn = options.temperature > 0
    return GenerationConfig(
        max_new_tokens=min(options.max_new_tokens, room),
        do_sample=drawn,
        temperature=options.temperature if drawn else 1.0,
        top_p=options.top_p if drawn else 1.0,
        top_k=0 if drawn else 50,  # greedy decoding warns of any value but 50
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        num_beams=1,
        use_cache=True,  # training switches it off in the model's own settings
        eos_token_id=ends or None,
        pad_token_id=pad_token_id,
    )


def token_losses(model: Any, tokenizer: Any, ids: list[int], learnt: Sequence[bool]) -> list[tuple[str, float | None]]:
    """(text, loss in nats) of each token; the loss is None for tokens that are not targets, and for the first one.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: of the model.
        ids: of the text, [n].
        learnt: whether each token is a target, [n].

    Raises:
        DataError: if the text has more than LONGEST_SCORED tokens, or more than the model takes.
    """
    longest = min(LONGEST_SCORED, longest_input(model.config))
    if len(ids) > longest:
        raise DataError(
            f"The text has {len(ids):,} tokens, but losses can be shown for at most {longest:,}: shorten it."
        )
    whole = torch.tensor([ids], device=next(model.parameters()).device)
    with torch.inference_mode():
        logits = model(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0, :-1]
        losses = cross_entropy(logits.float(), whole[0, 1:], reduction="none").tolist()
    known = [None, *(loss if flag else None for loss, flag in zip(losses, learnt[1:], strict=True))]
    return list(zip(token_texts(tokenizer, ids), known, strict=True))


def token_texts(tokenizer: Any, ids: list[int]) -> list[str]:
    """The text that each token adds. A character of several tokens is shown at the last of them."""
    return [added_text(tokenizer, ids[max(0, index - CONTEXT) : index], ids[index]) for index in range(len(ids))]


def added_text(tokenizer: Any, before: list[int], token: int) -> str:
    """The text that a token adds after the tokens `before`, of which the last few are enough."""
    had = tokenizer.decode(before, clean_up_tokenization_spaces=False).rstrip(INCOMPLETE)
    whole = tokenizer.decode([*before, token], clean_up_tokenization_spaces=False).rstrip(INCOMPLETE)
    return str(whole[len(had) :])
