"""The form in other languages: its settings, what is wrong with their values, and what a check finds have an entry."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import geko_app
import geko_engine
from geko_app.form.fields import FIELDS, GROUPS, STEPS
from geko_app.form.preset_results import preset_choices, preset_lines, preset_note
from geko_app.form.values import from_config, problems_of
from geko_app.languages import FOLDER, catalogue, languages
from geko_app.pages.components import static_text
from geko_app.pages.train import not_started
from geko_app.space.facts import Space
from geko_app.views.preview import MEMORY_PARTS, card, status, step_figures
from geko_engine.config.run_config import SECTIONS, RunConfig
from geko_engine.data.findings import finding
from geko_engine.data.formats.columns import Beside, pair_sentence
from geko_engine.data.formats.conversation import Conversation
from geko_engine.data.formats.text import PlainText
from geko_engine.exceptions import ConfigError
from geko_engine.preflight.data_issues import WHAT
from geko_engine.preflight.memory_estimate import Footprint, verdict
from geko_engine.quality.label_issues import LIKELY

APP, ENGINE = Path(geko_app.__file__).parent, Path(geko_engine.__file__).parent
# As static/language_catalogue.js has them.
PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}", re.IGNORECASE)
NUMBER = r"[+\-\u2212±]?\d(?:[\d.,]*\d)?(?:\s?%)?"
KINDS = ((re.compile(r"n(?:[\d_].*)?"), NUMBER), (re.compile(r"(?:count|size)\d*"), NUMBER + r"(?:\s?[kMGT]?B?)?"))
SENTENCE_END = re.compile(r"(?:(?<=[.!?;])|(?<=[.!?;][\"\u201d\u2019)]))\s+(?=[\"\u201c\u2018'(]?[A-Z0-9])")
LIST_SEPARATOR = re.compile(r", and | and |, ")
OURS = set(re.findall(r"\w+", static_text("language_catalogue.js").split("OURS = new Set(")[1].split(");")[0]))
CHINESE, WORD = re.compile(r"[\u4e00-\u9fff]"), re.compile(r"[A-Za-z]{3,}|\bof\b")
KEPT = re.compile(r"'[^']*'|`[^`]*`|\"[^\"]*\"|\b[a-z]+(?:[_.][a-z_.]+)+| = auto")  # values, and names of settings
PART_OF_SENTENCE = re.compile(r"\b[a-z]{2,} [a-z]{2,}|\b(?:at|than|the|of|and) ")
ALIKE = {
    "Alpha",
    "Dropout",
    "GEKO",
    "GPUs",
    "Logits",
    "LoRA",
    "DoRA",
    "rsLoRA",
    "torch.compile",
    "auto",
    "main",
    "default",
}
SLOT = "\0"  # what the code puts into a text
# Modules that compose what the form shows; what a run raises has a test of its own.
SPEAKING = [
    *(APP / "form").glob("*.py"),
    *(APP / "space").glob("*.py"),
    *(APP / "pages" / f"{name}.py" for name in ("train", "train_form", "form_helpers", "form_exports", "frame")),
    *(APP / f"{name}.py" for name in ("formatting", "hardware")),
    *(APP / "views" / f"{name}.py" for name in ("preview", "suggestions")),
    *(ENGINE / "config").glob("*.py"),
    *(ENGINE / "preflight").glob("*.py"),
]
CODE = re.compile(r"[<>{}\\\n]|^geko-|^from |^config = |^report = |^training\.|\bgeko-step\b|^\(key\)")
FRAGMENTS = {  # of sentences that the tests below provoke
    *("more than", "a list of \0\0", "of the type \0", "\0 is not \0.", " (expected precision \0 %)", "too much"),
    *("A training step needs about \0, and \0 are free", "\0, or lower max_length", "never freeze", "given in Python"),
    *("\0, switch on gradient checkpointing, or lower max_length", "\0: it fits.", "The only row cannot"),
    *("None of the first \0 rows can", "\0 be used: \0.", "\0 parameters, \0.", "\0 is not a complete checkpoint.\0"),
    *("halve the batch size and double the accumulation steps", "There is no setting named \0.\0", "at most \0"),
    *("CPU only · \0 cores · \0 memory", "This is not valid YAML: \0\0.", "\0: \0 is now \0: \0"),
    *("\0: it is tight. If memory runs out, \0.", "\0: it does not fit. You can \0.", "\0 is now \0"),
    *("Unexpected error (\0: \0).", "lora.\0 has no effect, because lora.enabled is off."),
    *("The file \0 cannot be used. \0", "num_epochs = auto", *WHAT.values()),
    "\0 parameters, \0. Estimated for the longest batch, which comes first, from the structure of the model, without loading it.",
}


class Texts:
    """Looks texts up as static/language_catalogue.js does."""

    def __init__(self, language: str) -> None:
        self.entries = catalogue(language)
        keys = sorted(self.entries, key=lambda key: (key.startswith("{"), -len(PLACEHOLDER.sub("", key))))
        self.patterns = [(self._pattern(key), key) for key in keys if PLACEHOLDER.search(key)]
        self.known = {PLACEHOLDER.sub(SLOT, key).replace(f"{SLOT} %", SLOT) for key in keys}

    @staticmethod
    def _pattern(key: str) -> re.Pattern[str]:
        pieces = PLACEHOLDER.split(key)
        groups = [
            "(" + next((what for name, what in KINDS if name.fullmatch(one)), ".+?") + ")" for one in pieces[1::2]
        ]
        return re.compile(
            "".join(re.escape(text) + group for text, group in zip(pieces[::2], [*groups, ""], strict=True))
        )

    def translate(self, text: str) -> str:
        """The text in the language, as far as it is known."""
        if text in self.entries or not re.search("[A-Za-z]", text):
            return self.entries.get(text, text)
        sentences = SENTENCE_END.split(text)
        parts = [self.translate(one) for one in sentences] if len(sentences) > 1 else []
        if parts and all(a != b for a, b in zip(parts, sentences, strict=True)):
            return " ".join(parts)
        for expression, key in self.patterns:
            if match := expression.fullmatch(text):
                return self._filled(key, match)
        return " ".join(parts) or text

    def _filled(self, key: str, match: re.Match[str]) -> str:
        caught = dict(zip(PLACEHOLDER.findall(key), match.groups(), strict=True))
        shown = {
            name: self._member(text) if name.rstrip("0123456789") in OURS else text for name, text in caught.items()
        }
        return PLACEHOLDER.sub(lambda found: shown[found[1]], self.entries[key])

    def _member(self, text: str) -> str:
        """What a placeholder caught: a text, or a list of known ones."""
        found = self.translate(text)
        members = LIST_SEPARATOR.split(text)
        shown = [self.translate(one) for one in members]
        return (
            found
            if found != text or any(a == b for a, b in zip(members, shown, strict=True))
            else self.entries.get(",", ", ").join(shown)
        )

    def left(self, texts: list[str]) -> list[str]:
        """Those of the texts that are English still, or in part."""
        return [text for text in dict.fromkeys(texts) if text not in ALIKE and self._is_english(self.translate(text))]

    @staticmethod
    def _is_english(shown: str) -> bool:
        return bool(PART_OF_SENTENCE.search(KEPT.sub("", shown)) or (WORD.search(shown) and not CHINESE.search(shown)))

    def has(self, template: str) -> bool:
        """Whether a text of the source, with SLOT for what is put in, is a key, or its sentences are."""
        text = " ".join(template.replace(f"{SLOT} %", SLOT).split())
        return text in self.known or all(part in self.known for part in SENTENCE_END.split(text))


@pytest.fixture(scope="module", params=languages())
def texts(request) -> Texts:
    return Texts(request.param)


def declared() -> list[str]:
    """The texts of the settings, each sentence by itself."""
    found = [text for f in FIELDS for text in (f.label, f.help, f.details, f.placeholder)]
    found += [*GROUPS, *(text for step in STEPS for text in (step.name, step.hint))]
    return [sentence for text in found for sentence in SENTENCE_END.split(text) if sentence]


def test_every_setting_is_translated(texts) -> None:
    assert texts.left(declared()) == []


@pytest.mark.parametrize("language", languages())
def test_no_text_of_a_setting_that_has_gone_is_kept(language) -> None:
    comma = {","}  # between the members of a list
    kept = json.loads((FOLDER / language / "settings.json").read_text(encoding="utf-8"))
    whole = {text for f in FIELDS for text in (f.help, f.details)}
    assert [key for key in kept if key not in {*declared(), *whole, *comma}] == []


def test_presets_and_their_figures_are_translated(texts) -> None:
    shown = [label for label, _ in preset_choices()] + list(preset_lines().values()) + SENTENCE_END.split(preset_note())
    assert texts.left(shown) == []


BAD = (None, "", "nonsense", "x\0y", "\ud800", "y" * 5000, -1, 0, 1.5, 10**9, 10**30, [], ["a"], [1, 2], {"a": 1}, True)
TOGETHER = [  # settings that do not go together
    *({"model": {"quantization": "4bit"}}, {"model": {"dtype": "float16"}}, {"geko": {"bucket_weights": [0, 0, 0]}}),
    {"model": {"quantization": "4bit"}, "lora": {"enabled": True, "init_lora_weights": "pissa"}},
    {"model": {"quantization": "8bit"}, "lora": {"enabled": True, "init_lora_weights": "loftq"}},
    {"model": {"quantization": "4bit"}, "training": {"fsdp": "full_shard"}},
    {"training": {"fp16": True, "bf16": True, "padding_free": "on", "compile_model": True, "max_cost": 3}},
    {"training": {"report_to": ["none such"], "webhook_url": "ftp://x", "gpu_ids": "first"}},
    {"training": {"use_8bit_optimizer": True, "optim": "adafactor", "gpu_ids": "1,1"}},
    {"training": {"gpu_ids": "0,1", "num_processes": 3, "early_stopping_patience": 2}},
    *(
        {"trainng": {}},
        {"zzzz": 1},
        {"training": 3},
        {"output_dir": ""},
        {"model": {"name": ""}},
        {"data": {"train": ""}},
    ),
    {"data": {"marks": "a", "row_flags": "b"}, "geko": {"preset": "none such"}},
    {"training": {"load_best_model_at_end": True, "learnig_rate": 1, "qqqqqqqq": 2}},
]


def problems(values: object) -> list[str]:
    try:
        RunConfig.from_dict(values, on_renamed=lambda _sentence: None)  # type: ignore[arg-type]
    except ConfigError as error:
        return [text for _, text in error.problems]
    return []


def test_what_is_wrong_with_a_value_is_translated(texts) -> None:
    keys = [(name, key) for name, cls in SECTIONS.items() for key in cls.__dataclass_fields__ if key != "output_dir"]
    found = [text for name, key in keys for value in BAD for text in problems({name: {key: value}})]
    assert len(set(found)) > 300
    assert texts.left(found) == []


@pytest.mark.parametrize("values", TOGETHER, ids=lambda values: ", ".join(values))
def test_what_does_not_go_together_is_translated(values, texts) -> None:
    found = problems(values)
    assert found
    assert texts.left(found) == []


def test_notes_on_settings_are_translated(texts) -> None:
    notes: list[str] = []
    RunConfig.from_dict({"data": {"marks": "a"}, "geko": {"mastery": "exact"}}, on_renamed=notes.append)
    ignored = RunConfig()
    ignored.lora.r, ignored.lora.alpha, ignored.data.replay_share = 64, 3, 0.5
    ignored.training.lr_scheduler_type, ignored.training.warmup_ratio = "constant", 0.1
    ignored.training.max_steps, ignored.training.num_epochs, ignored.training.cost_per_hour = 5, 7, 2.0
    ignored.training.gpu_ids, ignored.training.num_processes = "all", 4
    ignored.training.auto_find_batch_size, ignored.training.max_epochs = True, 9
    by_itself = RunConfig()
    by_itself.training.num_epochs, by_itself.training.lr_scheduler_type = "auto", "cosine"
    by_itself.training.early_stopping_patience = 2
    averaged = RunConfig()
    averaged.training.average_weights, averaged.training.lr_scheduler_type = True, "cosine"
    averaged.geko.enabled, averaged.geko.final_scan = False, True
    notes += [*ignored.without_effect(), *by_itself.without_effect(), *averaged.without_effect()]
    assert len(notes) > 10
    assert texts.left(notes) == []


def test_what_the_page_says_beside_the_button_is_translated(texts) -> None:
    shown = from_config(RunConfig.demo())
    wrong = {"training.learning_rate": "fast", "training.batch_size": 0, "data.max_length": "", "lora.r": -1}
    for count in range(1, len(wrong) + 1):
        values = shown | dict(list(wrong.items())[:count])
        found = problems_of([values[f.key] for f in FIELDS], lambda _config: [])
        assert len(found) == count
        begin, rest = re.fullmatch(r"\*\*(.*?)\*\* (.*)", not_started(found, "Not started."), re.DOTALL).groups()  # type: ignore[union-attr]
        assert texts.left([begin, rest.replace("\\", "")]) == []


def test_each_label_is_translated_before_a_message(texts) -> None:
    labels = [f.label for f in FIELDS]
    assert [label for label in labels if texts.translate(f"{label}: nonsense") == f"{label}: nonsense"] == []


@pytest.mark.parametrize("kind", WHAT)
@pytest.mark.parametrize("rows", [[3], [1, 4]], ids=["one", "several"])
def test_findings_in_the_data_are_translated(kind, rows, texts) -> None:
    what = WHAT[kind] + (" (expected precision 87 %)" if kind == LIKELY else "")
    sentence = finding(kind, rows, what).sentence
    assert texts.left([sentence, f"Training: {sentence}"]) == []


@pytest.mark.parametrize("context", [None, "input"])
@pytest.mark.parametrize(
    "beside", [{}, {"system": "rules"}, {"system": "rules", "history": "before", "tools": "calls"}]
)
def test_what_is_read_of_the_data_is_translated(context, beside, texts) -> None:
    either = [(labels, chat) for labels in (False, True) for chat in (False, True)]
    for labels, chat in either:
        sentence = pair_sentence("instruction", "output", context, Beside(**beside), labels=labels, chat=chat)
        shown = texts.translate(sentence)
        assert not re.search("with|above|turn|tools", shown), shown
        assert all(repr(name) in shown for name in ("instruction", "output", *beside.values()))
    for sentence in (PlainText("text", Beside(**beside)).sentence, Conversation("messages", Beside(**beside)).sentence):
        assert not re.search("all of it|turn|tools|template", texts.translate(sentence)), sentence
        assert all(repr(name) in texts.translate(sentence) for name in beside.values())


def footprint(**changes: int) -> Footprint:
    names = [f for f in Footprint.__dataclass_fields__ if f not in ("accumulates", "layers")]
    return Footprint(**(dict.fromkeys(names, 0) | {"parameters": 10, "trainable": 10} | changes), accumulates=True)


@pytest.mark.parametrize("free", [10**12, 105 * 10**9, 10**9], ids=["fits", "tight", "too much"])
@pytest.mark.parametrize("part", ["weights", "activations"])
@pytest.mark.parametrize("changes", [{}, {"trainable": 1}, {"recomputed": 1}], ids=["all", "part", "checkpointing"])
def test_the_verdict_on_memory_is_translated(free, part, changes, texts) -> None:
    found = footprint(**{part: 90 * 10**9}, **changes)
    assert texts.left(SENTENCE_END.split(verdict(found, free)[1])) == []


@pytest.mark.parametrize("trainable", [10**6, 2 * 10**3], ids=["all trained", "some trained"])
@pytest.mark.parametrize("seconds", [3, 600, 9000, 10**6])
def test_the_card_of_a_check_is_translated(trainable, seconds, texts) -> None:
    counts = {"rows": 9000, "samples": 8000, "tokens": 50_000, "target_tokens": 9000, "longest": 1200, "lengths": []}
    rows = {"kind": "truncated", "count": 4000, "sentence": "4,000 rows cut at 512 tokens (max_length): 1, 2, …"}
    data = {"type": "DataChecked", "findings": [rows], "source": "8 % of the training data", **counts}
    sizes = dict.fromkeys(MEMORY_PARTS, 3 * 10**8)
    step = {"type": "StepEstimated", "parts": sizes, "trainable": trainable, "parameters": 10**6, "needed": 10**9}
    step |= {"free": 2 * 10**8, "seconds": seconds, "verdict": "fits", "sentence": ""}
    reading = {"type": "PhaseChanged", "phase": "tokenising", "done": 1000, "total": 9000}
    scanning = {"type": "PhaseChanged", "phase": "scanning", "done": 0, "total": 0}
    held = {"name": "evaluation", **data}
    drawn = card([{"name": "training", **data}, held, step])
    shown = [text for figure in drawn["figures"] for text in figure.values()]
    shown += [*drawn["findings"], *drawn["warnings"], *(part["name"] for part in drawn["memory"]["parts"])]
    shown += [*SENTENCE_END.split(drawn["memory"]["note"]), status(reading), status(scanning), status(None)]
    shown += [f"{figure['value']} {figure['note']}" for figure in step_figures(step)]  # as the form's summary has it
    assert texts.left(shown) == []


def test_what_a_space_says_is_translated(texts) -> None:
    spaces = [
        Space("ada/geko", "ada", frozenset(), keeps=keeps, pushes=pushes) for keeps in (0, 1) for pushes in (0, 1)
    ]
    assert texts.left([note for space in spaces for note in space.notes()]) == []


def strings(node: ast.AST) -> Iterator[str]:
    """The strings of a module without docstrings and what other tests have; SLOT is what an f-string puts in."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("PhaseChanged", "RunError", "setting"):
        return
    if isinstance(node, ast.Constant):
        yield from [node.value] if isinstance(node.value, str) else []
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else SLOT for part in node.values)  # type: ignore[misc]
    else:
        for child in ast.iter_child_nodes(node):
            yield from strings(child)


def is_prose(text: str) -> bool:
    return not CODE.search(text) and len(re.findall(r"[A-Za-z]{2,}", text)) > 1 and " " in text.strip()


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_sentence_of_the_source_has_an_entry(path, texts) -> None:
    found = [text for text in strings(ast.parse(path.read_text(encoding="utf-8"))) if is_prose(text)]
    assert [text for text in dict.fromkeys(found) if text not in FRAGMENTS and not texts.has(text)] == []
