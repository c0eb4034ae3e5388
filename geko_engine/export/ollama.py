"""A GGUF file and a Modelfile for Ollama: the template that was trained, its stop, and a system prompt if all rows share one.

A template is only written where it renders example conversations exactly as the model's own chat template does.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from geko_engine.config.run_config import RunConfig
from geko_engine.data.formats import ChatTemplate, Format, UnusableRow
from geko_engine.data.formats.answers import fit
from geko_engine.data.formats.turns import Dialogue
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import begin_ids
from geko_engine.exceptions import ExportError, GekoError
from geko_engine.export.gguf import FILE, convert
from geko_engine.export.go_template import GoTemplate, Jinja, Messages, Underivable, derive, proved, render
from geko_engine.export.results import Exported, Say, ShouldStop, never, place_for, silent
from geko_engine.inference.examples import dataset_format
from geko_engine.runs.folder import RunFolder

MODELFILE = "Modelfile"
ROWS_READ = 200  # to see whether all have the same system prompt
WAY_OUT = "export the GGUF file alone, and write the TEMPLATE by hand"
QUESTION = "Which of these is it?\n1. one {x}\n2. two"
CONVERSATIONS: tuple[Messages, ...] = (
    (("user", QUESTION),),
    (("user", "Hi"), ("assistant", "Hello!\n\nYes?"), ("user", QUESTION)),
    (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")),
    (("system", "Be brief.\nBe kind."), ("user", QUESTION)),
    (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "And now?")),
)
SPACED: Messages = (("user", " spaces around \n"),)


def to_ollama(
    run: str | Path | RunFolder,
    to: str | Path | None = None,
    *,
    quantization: str = "q8_0",
    llama_cpp: str | Path | None = None,
    say: Say = silent,
    should_stop: ShouldStop = never,
) -> Exported:
    """Make a folder with model.gguf and a Modelfile, for `ollama create NAME -f Modelfile`.

    Args:
        run, to, quantization, llama_cpp, say, should_stop: as `to_gguf`; the default folder is exports/ollama.

    Returns:
        The Modelfile, and what to know about it.

    Raises:
        ExportError: as `to_gguf`, and where the chat template cannot be written in Ollama's syntax.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    path = place_for(folder, "ollama", to)
    text, notes = modelfile(folder, should_stop)
    made = convert(folder, path, {MODELFILE: text}, quantization, llama_cpp, say, should_stop)
    command = f"Run it with: ollama create {_ollama_name(folder)} -f {path / MODELFILE}"
    return replace(made, place=str(path / MODELFILE), sentences=(*made.sentences, *notes, command))


def modelfile(folder: RunFolder, should_stop: ShouldStop = never) -> tuple[str, list[str]]:
    """(text of the Modelfile, what to know about it). Raises ExportError where the template cannot be written."""
    if not folder.model_path.is_dir():
        raise ExportError(f"The run {folder.id} has not saved a model yet: let it finish, or stop it, which saves one.")
    config = folder.config_with_saved_flags()
    tokenizer = AutoTokenizer.from_pretrained(folder.model_path, trust_remote_code=config.model.trust_remote_code)
    format, _ = dataset_format(config, tokenizer, should_stop)
    template, notes = _of_chat(tokenizer) if format.uses_chat_template else (_of_text(format, tokenizer), [])
    system = common_system(config, format, should_stop) or template.system
    lines = [f"FROM ./{FILE}", f"TEMPLATE {_quoted(template.text)}"]
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    lines += [f'PARAMETER stop "{end}"' for end in _stops(tokenizer, chat=format.uses_chat_template)]
    return "\n".join(lines) + "\n", notes


def _of_chat(tokenizer: Any) -> tuple[GoTemplate, list[str]]:
    jinja, begin = _jinja(tokenizer), _own_beginning(tokenizer)
    try:
        template = derive(jinja, begin)
        whole = proved(template, jinja, begin, CONVERSATIONS)
    except (Underivable, UnusableRow) as error:
        raise ExportError(f"The chat template cannot be written for Ollama, because it {error}: {WAY_OUT}.") from error
    if not whole:
        raise ExportError(
            f"The chat template cannot be written for Ollama: its Go template would render conversations in another way: "
            f"{WAY_OUT}."
        )
    notes = (
        []
        if proved(template, jinja, begin, [SPACED])
        else ["The chat template removes spaces around a message, which Ollama does not."]
    )
    return template, [*notes, "Tools are not part of the Modelfile's template."]


def _jinja(tokenizer: Any) -> Jinja:
    """How the chat template renders messages, changed to what it can render as in training."""
    template = ChatTemplate.of(tokenizer)

    def rendered(messages: Messages, begin: bool) -> str:
        dialogue = Dialogue()
        for role, content in messages:
            dialogue.say(role, content)
        fit(dialogue, template)
        return template.render(dialogue.turns, begin=begin)

    return rendered


def _own_beginning(tokenizer: Any) -> str:
    """What the tokenizer begins every text with, which Ollama adds from the GGUF file."""
    return str(tokenizer.decode(begin_ids(tokenizer)))


def _of_text(format: Format, tokenizer: Any) -> GoTemplate:
    """For models that were trained without a chat template: the prompt as training writes it."""
    before, after = format.opening(QUESTION, tokenizer).split(QUESTION)
    template = GoTemplate(f"{before}{{{{ .Prompt }}}}{after}")
    assert render(template.text, [], "x") == format.opening("x", tokenizer)
    return template


def common_system(config: RunConfig, format: Format, should_stop: ShouldStop) -> str:
    """The system prompt that each of the first ROWS_READ rows has; "" if they differ or have none."""
    read = getattr(format, "dialogue", None)
    if read is None:
        return ""
    count = min(ROWS_READ, config.data.sample_count or ROWS_READ)
    found = set()
    try:
        for row in load_rows(replace(config.data, sample_count=count), should_stop=should_stop):
            turns = read(row).turns
            found.add(str(turns[0]["content"]) if turns[0]["role"] == "system" else "")
    except (GekoError, UnusableRow):
        return ""
    return found.pop() if len(found) == 1 else ""


def _stops(tokenizer: Any, *, chat: bool) -> list[str]:
    ends = [ChatTemplate.of(tokenizer).end] if chat else []
    return list(dict.fromkeys(str(end) for end in [*ends, tokenizer.eos_token] if end))


def _quoted(text: str) -> str:
    if '"""' in text:
        raise ExportError(f"The text {text!r} holds three quotes, which a Modelfile cannot hold: {WAY_OUT}.")
    return f'"""{text}"""'


def _ollama_name(folder: RunFolder) -> str:
    """A name that Ollama takes: it begins with a letter or digit."""
    return re.sub(r"^\W+", "", folder.id.split("-", 2)[-1].lower())
