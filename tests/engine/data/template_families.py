"""Small tokenizers and chat templates built like those of well-known model families; trained here, in our own words.

`tokenizer_of(family)` makes one. A family is named for the structure it shares, not for its vocabulary.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LINES = [
    "one plus one is two. two plus two is four. what is the capital of France? the capital is Paris.",
    "user assistant system tool model question answer think weather city arguments name get_weather sunny",
    "Good morning! How can I help you today? Please be brief. 0 1 2 3 4 5 6 7 8 9",
]

# A header, the content and an end around every turn.
CHATML = """\
{%- for turn in messages -%}
{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""
# An end of turn after each turn, and the end of text once, after the last one.
END_OF_TEXT_LAST = """\
{%- for turn in messages -%}
{{ '<|' + turn['role'] + '|>\\n' + turn['content'] + '<|end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>\\n' }}{%- else -%}{{ eos_token }}{%- endif -%}"""
# BOS first, headers around the role, contents trimmed.
HEADERS = """\
{{- bos_token }}
{%- for turn in messages -%}
{{ '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\\n\\n' + turn['content'] | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}"""
# No system turn, strict turns, the assistant goes by the name of model.
STRICT = """\
{{- bos_token }}
{%- for turn in messages -%}
{%- if turn['role'] == 'system' -%}{{ raise_exception('no system turns, please') }}{%- endif -%}
{%- if (loop.index0 % 2 == 0) != (turn['role'] == 'user') -%}{{ raise_exception('turns must alternate') }}{%- endif -%}
{%- set name = 'model' if turn['role'] == 'assistant' else 'user' -%}
{{ '<start_of_turn>' + name + '\\n' + turn['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"""
# Instructions in brackets, nothing stands before an answer when the model is asked, other roles are refused.
BRACKETS = """\
{{- bos_token }}
{%- for turn in messages -%}
{%- if turn['role'] == 'user' -%}{{ '[INST] ' + turn['content'] + ' [/INST]' }}
{%- elif turn['role'] == 'assistant' -%}{{ ' ' + turn['content'] + eos_token }}
{%- else -%}{{ raise_exception('unknown role ' + turn['role']) }}{%- endif -%}
{%- endfor -%}"""
# Tools, tool calls, and a thought before the answers that follow the last question; earlier thoughts are dropped.
THINKING = """\
{%- set state = namespace(asked=0) -%}
{%- for turn in messages -%}{%- if turn['role'] == 'user' -%}{%- set state.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- if tools -%}
{{ '<|im_start|>system\\nYou may call:\\n' }}{%- for tool in tools -%}{{ tool | tojson + '\\n' }}{%- endfor -%}{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- for turn in messages -%}
{%- if turn['role'] != 'assistant' -%}
{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' }}
{%- else -%}
{%- set said = turn['content'].split('</think>')[-1].lstrip('\\n') -%}
{%- set thought = turn['reasoning_content'] or '' -%}
{%- if not thought and '</think>' in turn['content'] -%}
{%- set thought = turn['content'].split('</think>')[0].split('<think>')[-1].strip('\\n') -%}
{%- endif -%}
{{ '<|im_start|>assistant\\n' }}
{%- if loop.index0 > state.asked and (thought or loop.last) -%}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{%- endif -%}
{{ said }}
{%- for call in turn['tool_calls'] or [] -%}
{{ '\\n<tool_call>\\n{"name": "' + call['function']['name'] + '", "arguments": ' + call['function']['arguments'] | tojson + '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""
# A thought is opened when the model is asked, and never rendered.
OPEN_THOUGHT = """\
{{- bos_token }}
{%- for turn in messages -%}
{%- if turn['role'] == 'user' -%}{{ '<U>' + turn['content'] }}
{%- elif turn['role'] == 'assistant' -%}{{ '<A>' + turn['content'].split('</think>')[-1].lstrip() + eos_token }}
{%- else -%}{{ turn['content'] }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<A><think>\\n' }}{%- endif -%}"""
# Nothing marks where an answer ends.
NO_END = """\
{%- for turn in messages -%}{{ '### ' + turn['role'] + ': ' + turn['content'] + '\\n' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### assistant:' }}{%- endif -%}"""
# Nothing begins an answer when the model is asked.
NO_BEGINNING = """\
{%- for turn in messages -%}{{ '<|' + turn['role'] + '|>\\n' + turn['content'] + eos_token + '\\n' }}{%- endfor -%}"""
# Says itself what the assistant writes.
MASKED = """\
{%- for turn in messages -%}
{%- if turn['role'] == 'assistant' -%}
{{ '<|im_start|>assistant\\n' }}{%- generation -%}{{ turn['content'] + '<|im_end|>' }}{%- endgeneration -%}{{ '\\n' }}
{%- else -%}
{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""

# family: (special tokens, BOS that the tokenizer writes, EOS, template, whether pieces begin with the sign of a space)
FAMILIES: dict[str, tuple[list[str], str, str, str, bool]] = {
    "gpt2": (["<|endoftext|>"], "", "<|endoftext|>", "", False),
    "llama2": (["<unk>", "<s>", "</s>"], "<s>", "</s>", BRACKETS, True),
    "llama2 base": (["<unk>", "<s>", "</s>"], "<s>", "</s>", "", True),
    "llama3": (
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|begin_of_text|>",
        "<|eot_id|>",
        HEADERS,
        False,
    ),
    "llama3 base": (["<|begin_of_text|>", "<|end_of_text|>"], "<|begin_of_text|>", "<|end_of_text|>", "", False),
    "gemma": (["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>", STRICT, False),
    "phi3": (["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"], "", "<|endoftext|>", END_OF_TEXT_LAST, False),
    "qwen2": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "", "<|im_end|>", CHATML, False),
    "qwen2 base": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "", "<|endoftext|>", CHATML, False),
    "qwen3": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "", "<|im_end|>", THINKING, False),
    "r1": (["<bos>", "<eos>", "<U>", "<A>"], "<bos>", "<eos>", OPEN_THOUGHT, False),
    "masked": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "", "<|im_end|>", MASKED, False),
    "no end": (["<|endoftext|>"], "", "<|endoftext|>", NO_END, False),
    "no beginning": (["<|endoftext|>"], "", "<|endoftext|>", NO_BEGINNING, False),
    "no eos": (["<x>"], "", "", "", False),
}
WITH_TEMPLATE = [family for family, values in FAMILIES.items() if values[3]]


def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """A new tokenizer of the family, with its template where it has one."""
    specials, bos, eos, template, spaced = FAMILIES[family]
    names = {"bos_token": bos or None, "eos_token": eos or None, "unk_token": "<unk>" if spaced else None}
    backend = Tokenizer.from_str(_trained(tuple(specials), bos, spaced))
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template or None, **names)


@functools.cache
def _trained(specials: Sequence[str], bos: str, spaced: bool) -> str:
    tokenizer = _spaced_tokenizer(specials) if spaced else _byte_tokenizer(specials)
    if bos:
        number = tokenizer.token_to_id(bos)
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, number)])
    return str(tokenizer.to_str())


def _byte_tokenizer(specials: Sequence[str]) -> Tokenizer:
    """Like GPT-2's: pieces of bytes, a space belongs to the word behind it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(LINES * 10, trainer)
    return tokenizer


def _spaced_tokenizer(specials: Sequence[str]) -> Tokenizer:
    """Like SentencePiece's: a text begins with the sign of a space, and what is unknown falls back to bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    codes = [f"<0x{code:02X}>" for code in range(256)]
    tokenizer.train_from_iterator(
        LINES * 10, trainers.BpeTrainer(vocab_size=700, special_tokens=[*specials, *codes], show_progress=False)
    )
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in codes]
    return Tokenizer.from_str(json.dumps(values))
