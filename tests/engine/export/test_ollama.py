"""Templates in Ollama's syntax: each renders as the chat template does, or is refused; and the whole Modelfile."""

from __future__ import annotations

from pathlib import Path

import pytest

from geko_engine.data.formats import TEMPLATES, give_template
from geko_engine.exceptions import ExportError
from geko_engine.export.go_template import derive, proved, render
from geko_engine.export.ollama import CONVERSATIONS, _jinja, _of_chat, _own_beginning, modelfile
from geko_engine.runs.folder import RunFolder
from tests.engine.data.template_families import WITH_TEMPLATE, tokenizer_of
from tests.engine.export.conftest import trained, write_base

DEFAULT_SYSTEM = """\
{%- if messages[0]['role'] != 'system' -%}{{ '<|im_start|>system\\nYou are kind.<|im_end|>\\n' }}{%- endif -%}
{%- for turn in messages -%}{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""
COUNTING = """\
{%- for turn in messages -%}{{ loop.index ~ turn['role'] + ': ' + turn['content'] + '<|im_end|>\\n' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'assistant: ' }}{%- endif -%}"""
CHATML = (
    '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
    '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
    '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
    "{{ end }}{{ end }}<|im_start|>assistant\n"
)


def test_what_the_actions_of_go_mean() -> None:
    text = (
        '{{ $open := false }}[{{ range .Messages }}{{ if eq .Role "system" }}({{ .Content }}{{ $open = true }}'
        '{{ else if eq .Role "user" }}{{ if not $open }}({{ end }}{{ $open = false }}{{ .Content }})'
        "{{ else }}<{{ .Content }}>{{ end }}{{ end }}]"
    )
    assert render(text, []) == "[]"
    assert render(text, [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v")]) == "[(su)<a>(v)]"
    assert render("{{ .Prompt }}\n", [], "ask {{ .Content }}") == "ask {{ .Content }}\n"
    with pytest.raises(ValueError, match="slice"):
        render("{{ slice .Messages 1 }}", [])


@pytest.mark.parametrize("family", WITH_TEMPLATE)
def test_a_known_template_is_written_as_it_renders(family: str) -> None:
    tokenizer = tokenizer_of(family)
    template, _ = _of_chat(tokenizer)
    jinja, begin = _jinja(tokenizer), _own_beginning(tokenizer)
    for conversation in CONVERSATIONS:
        assert begin + template.render(conversation) == jinja(conversation, True) if begin else True
        assert template.render(conversation) == jinja(conversation, True).removeprefix(begin)


@pytest.mark.parametrize("name", TEMPLATES)
def test_so_are_our_own(name: str) -> None:
    tokenizer = tokenizer_of("gpt2")
    give_template(tokenizer, name)
    template, _ = _of_chat(tokenizer)
    assert all(template.render(one) == _jinja(tokenizer)(one, True) for one in CONVERSATIONS)


def test_it_reads_as_one_would_write_it() -> None:
    assert _of_chat(tokenizer_of("qwen2"))[0].text == CHATML
    begin = "<|start_header_id|>user<|end_header_id|>\n\n{{ .Content }}<|eot_id|>"
    template, notes = _of_chat(tokenizer_of("llama3"))
    assert begin in template.text and "begin_of_text" not in template.text, "the tokenizer itself writes BOS"
    assert "The chat template removes spaces around a message, which Ollama does not." in notes


def test_what_the_template_says_by_itself_becomes_the_system_prompt() -> None:
    tokenizer = tokenizer_of("qwen2")
    tokenizer.chat_template = DEFAULT_SYSTEM
    template, _ = _of_chat(tokenizer)
    assert template.system == "You are kind." and template.text == CHATML


def test_a_template_that_cannot_be_written_is_refused() -> None:
    tokenizer = tokenizer_of("qwen2")
    tokenizer.chat_template = COUNTING
    with pytest.raises(ExportError, match="cannot be written for Ollama"):
        _of_chat(tokenizer)
    tokenizer.chat_template = CHATML_WITH_BRACES = DEFAULT_SYSTEM.replace("'<|im_start|>' + turn", "'{{ }}' + turn")
    assert CHATML_WITH_BRACES != DEFAULT_SYSTEM
    with pytest.raises(ExportError, match="cannot be written for Ollama"):
        _of_chat(tokenizer)


def test_the_proof_fails_for_another_template() -> None:
    tokenizer = tokenizer_of("qwen2")
    different = tokenizer_of("phi3")
    other = derive(_jinja(different))
    assert not proved(other, _jinja(tokenizer), "", CONVERSATIONS)


def test_the_modelfile_has_template_stop_and_the_system_prompt_of_all_rows(finished_whole: RunFolder) -> None:
    text, _ = modelfile(finished_whole)
    assert text == f'FROM ./model.gguf\nTEMPLATE """{CHATML}"""\nSYSTEM """Be brief."""\nPARAMETER stop "<|im_end|>"\n'


def test_without_a_chat_template_the_prompt_stands_as_in_training(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "one", "completion": "two"}\n' * 4, encoding="utf-8")
    run = trained(tmp_path, write_base(tmp_path / "base", "gpt2"), rows, training={"num_epochs": 1})
    assert modelfile(run)[0] == 'FROM ./model.gguf\nTEMPLATE """{{ .Prompt }}\n"""\nPARAMETER stop "<|endoftext|>"\n'
