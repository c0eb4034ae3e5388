"""Prompts are rendered as in training, answers end where they should, examples are what was learnt."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig, ModelConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.formats import Format, PromptCompletion, recognise
from geko_engine.data.preparation import use_template
from geko_engine.data.tokenization import encode, tokenise
from geko_engine.demo import demo_path
from geko_engine.exceptions import DataError
from geko_engine.inference.examples import dataset_format, find_examples
from geko_engine.inference.generation import (
    ALTERNATIVES,
    Options,
    conversation_pieces,
    end_tokens,
    generate,
    pieces_of,
    prompt_ids,
    token_losses,
    token_texts,
)
from geko_engine.inference.run_models import memory_problem
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import character_tokenizer, small_llama

ROWS: dict[str, dict[str, Any]] = {
    "pair": {"prompt": "2 + 2 =", "completion": "4"},
    "with a context": {"instruction": "add", "input": "2 and 2", "output": "4"},
    "conversation": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]},
}


def prepared(row: dict[str, Any], **config: Any) -> tuple[Format, Any]:
    format, tokenizer = recognise([row], DataConfig(**config)), character_tokenizer()
    use_template(format, tokenizer, lambda event: None)
    return format, tokenizer


@pytest.mark.parametrize("chat", ["raw", "chat"])
@pytest.mark.parametrize("name", list(ROWS))
def test_a_prompt_is_read_as_it_was_in_training(name: str, chat: str) -> None:
    format, tokenizer = prepared(ROWS[name], chat_template=chat)
    learnt = tokenise([ROWS[name]], format, tokenizer, 1000)
    ids = prompt_ids(pieces_of(format.question(ROWS[name])[0], "", format, tokenizer), format, tokenizer)
    assert learnt.tokens[: len(ids)].tolist() == ids
    assert not learnt.learnt[: len(ids)].any() and learnt.learnt[len(ids)]


@pytest.mark.parametrize("name", list(ROWS))
def test_a_prompt_with_its_answer_is_the_row_that_was_learnt(name: str) -> None:
    format, tokenizer = prepared(ROWS[name])
    answer = "yes" if name == "conversation" else "4"
    ids, flags = encode(pieces_of(format.question(ROWS[name])[0], answer, format, tokenizer), format, tokenizer)
    learnt = tokenise([ROWS[name]], format, tokenizer, 1000)
    assert (learnt.tokens.tolist(), learnt.learnt.tolist()) == (ids, flags)


def test_a_plain_text_goes_on_without_an_end() -> None:
    format, tokenizer = prepared({"text": "abc"})
    assert prompt_ids(pieces_of("ab", "", format, tokenizer), format, tokenizer) == tokenizer("ab")["input_ids"]
    assert prompt_ids(pieces_of("", "", format, tokenizer), format, tokenizer) == [tokenizer.eos_token_id]


def answer(model: Any, tokenizer: Any, prompt: str, options: Options) -> tuple[Any, list[tuple[str, int]]]:
    told: list[tuple[str, int]] = []
    ids = tokenizer(prompt)["input_ids"]
    return generate(model, tokenizer, ids, options, lambda *news: told.append(news), lambda: False), told


def test_the_words_come_one_by_one_and_the_last_are_the_answer() -> None:
    found, told = answer(small_llama().eval(), character_tokenizer(), "ab", Options(max_new_tokens=9))
    assert [tokens for _, tokens in told] == list(range(1, found.tokens + 1)) and told[-1][0] == found.text
    assert all(later.startswith(earlier) for (earlier, _), (later, _) in pairwise(told))


def test_each_token_has_its_probability_whatever_the_temperature() -> None:
    model, tokenizer = small_llama().eval(), character_tokenizer()
    for options in (Options(max_new_tokens=5), Options(max_new_tokens=5, temperature=2.0, top_p=0.9, seed=3)):
        found, _ = answer(model, tokenizer, "ab", options)
        assert "".join(token.text for token in found.written if not token.special).strip() == found.text
        ids = tokenizer("ab")["input_ids"]
        for token in found.written:
            with torch.no_grad():
                chances = model(torch.tensor([ids])).logits[0, -1].softmax(-1)
            best = chances.topk(ALTERNATIVES)
            assert [share for _, share in token.alternatives] == pytest.approx(best.values.tolist(), abs=1e-5)
            shown = [tokenizer.decode([number]) for number in best.indices.tolist()]
            assert [text for text, _ in token.alternatives] == shown
            ids.append(tokenizer.convert_tokens_to_ids(token.text))
            assert token.probability == pytest.approx(float(chances[ids[-1]]), abs=1e-5)


def test_a_conversation_is_what_the_template_makes_of_it() -> None:
    _, tokenizer = prepared(ROWS["conversation"])
    turns = [{"role": role, "content": text} for role, text in (("user", "hi"), ("assistant", "yes"), ("user", "so"))]
    with_rules = [{"role": "system", "content": "be brief"}, *turns]
    for spoken in (turns, with_rules):
        whole = tokenizer.apply_chat_template(spoken, tokenize=False, add_generation_prompt=True)
        assert conversation_pieces(spoken, "", tokenizer) == [(whole, False)]
        pieces = conversation_pieces(spoken, "no", tokenizer)
        assert [text.strip().removesuffix("<eos>") for text, learnt in pieces if learnt] == ["no"]
    with pytest.raises(DataError, match="no chat template"):
        conversation_pieces(turns, "", character_tokenizer())


def test_an_answer_ends_at_every_end_that_model_and_tokenizer_name() -> None:
    model, tokenizer = small_llama().eval(), character_tokenizer()
    first, _ = answer(model, tokenizer, "ab", Options(max_new_tokens=3))
    assert (first.end, first.tokens) == ("limit", 3)
    written = tokenizer(first.text)["input_ids"]
    model.generation_config.eos_token_id = [1, written[1]]
    assert end_tokens(model, tokenizer) == sorted({1, written[1]})
    second, _ = answer(model, tokenizer, "ab", Options(max_new_tokens=3))
    assert second.end == "end of text" and second.tokens == written.index(written[1]) + 1


def test_what_a_model_brings_along_does_not_change_how_it_is_asked() -> None:
    model, tokenizer = small_llama().eval(), character_tokenizer()
    plain, _ = answer(model, tokenizer, "ab", Options(max_new_tokens=8))
    model.generation_config.update(repetition_penalty=5.0, no_repeat_ngram_size=1, do_sample=True, temperature=9.0)
    assert answer(model, tokenizer, "ab", Options(max_new_tokens=8))[0].text == plain.text


def test_a_prompt_that_leaves_no_room_is_refused_and_one_that_leaves_little_gets_it() -> None:
    model, tokenizer = small_llama(max_position_embeddings=16).eval(), character_tokenizer()
    assert answer(model, tokenizer, "a" * 14, Options(max_new_tokens=50))[0].tokens == 2
    with pytest.raises(DataError, match="16 tokens, but the model takes at most 16"):
        answer(model, tokenizer, "a" * 16, Options())


def test_a_stop_ends_the_answer_at_the_next_token() -> None:
    model, tokenizer = small_llama().eval(), character_tokenizer()
    told: list[int] = []
    ids = tokenizer("ab")["input_ids"]
    found = generate(
        model, tokenizer, ids, Options(100), lambda text, tokens: told.append(tokens), lambda: len(told) >= 4
    )
    assert found.end == "stopped" and found.tokens <= 5


def test_the_losses_are_those_that_transformers_counts() -> None:
    model, tokenizer = small_llama().eval(), character_tokenizer()
    ids, flags = encode([("ab: ", False), ("cd", True)], PromptCompletion("p", "c"), tokenizer)
    labels = torch.tensor([[i if flag else -100 for i, flag in zip(ids, flags, strict=True)]])
    with torch.no_grad():
        expected = float(model(input_ids=torch.tensor([ids]), labels=labels).loss)
    found = token_losses(model, tokenizer, ids, flags)
    known = [loss for _, loss in found if loss is not None]
    assert len(known) == 3 and sum(known) / 3 == pytest.approx(expected, abs=1e-5)
    assert [loss for _, loss in found][:4] == [None] * 4
    with pytest.raises(DataError, match="129 tokens"):
        token_losses(model, tokenizer, [5] * 129, [True] * 129)


def test_tokens_are_shown_so_that_together_they_are_the_text() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo_path("model"))
    ids = tokenizer("Which is the last of the letters k d l? 123\n x")["input_ids"]
    assert "".join(token_texts(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_model_that_does_not_fit_is_told_with_both_figures() -> None:
    assert memory_problem(8_000_000_000, 20_000_000_000) == ""
    assert memory_problem(0, 1) == ""  # what cannot be counted is tried
    problem = memory_problem(8_000_000_000, 6_000_000_000)
    assert "9.4 GB" in problem and "6.0 GB" in problem


@pytest.fixture
def conversations(tmp_path: Path, model_folder: Path) -> RunFolder:
    """A run that has learnt conversations of one and of two answers, a quarter of them held out."""
    turns = [("user", "hi"), ("assistant", "yes"), ("user", "2 + 2 ="), ("assistant", "4")]
    rows = [
        {"messages": [{"role": role, "content": f"{text} {i}"} for role, text in turns[: 2 + 2 * (i % 2)]]}
        for i in range(16)
    ]
    data = tmp_path / "chat.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = RunConfig(
        model=ModelConfig(name=str(model_folder)),
        data=DataConfig(train=str(data), eval_ratio=0.25, max_length=128),
        training=GEKOTrainingArgs(num_epochs=1, batch_size=4),
        output_dir=str(tmp_path / "runs"),
    )
    folder = RunFolder.create(config)
    assert run(folder)["end"] == "complete"
    return folder


def test_examples_of_conversations_are_their_last_answers(conversations: RunFolder) -> None:
    config, tokenizer = conversations.config(), character_tokenizer()
    format, note = dataset_format(config, tokenizer, lambda: False)
    found, notes = find_examples(conversations, config, tokenizer, 128, lambda: False)
    held = [example for example in found if example.group == "evaluation"]
    assert format.messages == "messages" and held and note == "" and notes == []
    for example in held:
        number = int(example.ref.split(":")[1])
        assert example.earlier == (2 if number % 2 else 0)
        assert example.answer == (f"4 {number}" if number % 2 else f"yes {number}")
        assert example.before[-1][0].endswith(f"{example.prompt}\nAssistant:")


def test_data_that_is_gone_takes_the_format_from_the_settings(conversations: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").unlink()
    format, note = dataset_format(conversations.config(), character_tokenizer(), lambda: False)
    assert not format.uses_chat_template and "taken from the settings" in note
    found, notes = find_examples(conversations, conversations.config(), character_tokenizer(), 128, lambda: False)
    assert found == [] and len(notes) == 1
