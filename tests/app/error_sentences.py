"""What a user of the page may read when something is wrong or worth knowing, read from the source of both packages.

Found are raised errors, events for the user (messages, findings, ends of runs), refused requests, Gradio's notices, and
the phrases that these are made of. A sentence is an f-string in the source: each of its alternatives is a template with
{names} for what is filled in; {n_names} stand for one number. Imports neither package.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.app.source_texts import FAMILY, NUMBER, WHOLE, WORDS, Module, Source, assigned, name_of

# The terminal shows the first ones; the settings and the form, the samples' reasons and the API have texts of their own.
LEFT_OUT = (
    "geko_engine/cli",
    "geko_engine/integrations",
    "geko_engine/reporting",
    "geko_engine/export/command",
    "geko_engine/export/model_card",
    "geko_app/cli",
    "geko_engine/config",
    "geko_engine/selection/explanation",
    "geko_engine/selection/mastery",
    "geko_engine/selection/sample_reasons",
    "geko_app/api",
    "geko_app/form/values",
    "geko_app/runs/live_state",  # the log
    "geko_app/form/roots",
)
ONLY_ERRORS = ("geko_app/pages", "geko_app/views", "geko_app/form", "geko_app/server", "geko_app/hardware")
ERRORS = dict.fromkeys([*FAMILY, "CheckpointNotFoundError", "RunLockedError", "Error", "Warning", "Info"], 0)
EVENTS = {"Message": 0, "Refusal": 1, "PhaseChanged": 1, "Status": 2}  # name -> position of the text
CALLBACKS = dict.fromkeys(["warn", "_warn", "note", "_note"], 0)
KEYWORDS = ("sentence", "reason", "message")
LOGIN = "auth_message"  # below the form of the login page
DETAIL = "detail"  # of a refused request
RETURNING = ("_problem", "_sentence", "_reason")  # ends of the names of functions that return sentences
BUGS = (
    "AttributeError",
    "KeyError",
    "NotImplementedError",
    "RuntimeError",
    "TypeError",
    "ValueError",
    "AssertionError",
)
COMPOSED = {  # what comes out of templates with hardly a word of their own
    "{name} rows": ["training rows", "evaluation rows"],
    "{name} data {source}": ["training data {source}", "evaluation data {source}"],
    "{name} data: {sentence}": ["Training data: {sentence}", "Evaluation data: {sentence}"],
    "its {what} (column {column})": ["its weight is 0 (column {column})", "its label is false (column {column})"],
    "label is false": [],
    "The worker was ended by the system ({name}).{hints}": [
        "The worker was ended by the system ({name}).",
        "This usually means that memory ran out: halve the batch size.",
    ],
    "{path} is not UTF-8 text{looks_like}: save it as UTF-8.": [
        "{path} is not UTF-8 text: save it as UTF-8.",
        "{path} is not UTF-8 text, it looks like {name}: save it as UTF-8.",
    ],
    "Columns that are not read: {unread}, filled in {n_rows} row{what}: {rows}": [
        "Columns that are not read: {unread}, filled in {n_rows} row: {rows}"
    ],
    "Columns that are not read: {unread}, filled in {n_rows} rows{what}: {rows}": [
        "Columns that are not read: {unread}, filled in {n_rows} rows: {rows}"
    ],
}
RENAMED = {  # where a name would mislead the catalogue, which leaves a {name} or {text} as it is and knows a {count} as a number
    "{missing}{value}": "{missing}",
    "data.{count}": "data.{setting}",
    "Epoch {epoch}: {text}": "Epoch {epoch}: {sentence}",
    **dict.fromkeys(["{messages}{phrase}", "{text}{phrase}", "{asked}{phrase}"], "{asked}"),  # one catches both
    "although {name} could": "although {what} could",
    "in {name}; most are in {name}": "in {language}; most are in {language}",
}
SHORT = [  # phrases of one or two words, and what the operating system says most often
    *(f", {what} in {{name}}" for what in ("system turn", "earlier turns", "tools", "weight", "label")),
    *("ended the process that reads it ({name})", "ended with exit code {code}, as the terminal of the page says"),
    *("None of the {n_count} rows has anything to learn", "None of the {n_count} first rows has anything to learn"),
    *("The only row has nothing to learn", "the run", "the model", "the checkpoint", "the checkpoint and the model"),
    *("another process", "process {pid}", "process {pid} on {host}"),
    *("likely mislabeled", "corrected (data.corrections)", "without text", "general rows", "model", "dataset", "none"),
    *("No such file or directory", "Permission denied", "No space left on device", "Is a directory"),
    *("Not a directory", "Read-only file system", "Input/output error", "File name too long"),
]
SKIPPED = ("resume from another one.", "it is skipped.")  # run.py says so of a checkpoint that it passes over
PROGRAMMERS = {  # not shown on the page: what other libraries say, what the terminal shows, and parts of sentences
    *("does not recognize this architecture", "Unrecognized model in", "Unrecognized configuration class"),
    *("have a file named config.json", "not a valid JSON file", "o file named model.safetensors"),
    *("have a file named pytorch_model.bin", "instantiate the backend tokenizer", "requires the following packages"),
    *("inputs will be cast", "Failed to load CPU gemm_4bit", "accelerate's own FSDP", *SKIPPED),
    *("Upload adapter of run {id}", "Upload model of run {id}", "geko-app refused a request. {sentence}"),
    *("A training step needs about {size}, and {size2} are free",),
    *("halve the batch size and double the accumulation steps", "from the beginning"),
    *("from the checkpoint at step {name}", "constant, then linear to zero", "Shift JIS (Japanese)"),
}
IMPOSSIBLE = re.compile(r"(?<!likely mislabeled) \(expected precision")
PLAIN_WORD = re.compile(r"(?<!\S)[('“]?[A-Za-z'-]+[,.;:)\u2019”]*(?!\S)")
CODE = re.compile(r"\\[bdn]|\{%|\{\{|\n|\|.*\||^probe of|__|^[,;]")
FORMAT_FIELD = re.compile(r"\{(\w*)(?:![rs])?(?::([^{}]*))?\}")


def _sinks(source: Source) -> dict[str, int]:
    """Calls that take a text for the user, with its position: those that are known, and functions that hand it on."""
    sinks = {**ERRORS, **EVENTS, **CALLBACKS}
    for _ in range(3):
        for module in source.modules:
            for node in ast.walk(module.tree):
                if not isinstance(node, ast.Call) or name_of(node.func) not in sinks:
                    continue
                scope, place = source.scope(node), sinks[name_of(node.func)]
                text = node.args[place] if len(node.args) > place else None
                if scope is None or not isinstance(text, ast.Name) or scope.name.startswith(("__", "_on_")):
                    continue
                names = [argument.arg for argument in scope.args.args if argument.arg not in ("self", "cls")]
                if text.id in names and not assigned(text.id, scope):
                    sinks.setdefault(scope.name, names.index(text.id))
    return sinks


def _roots(module: Module, source: Source, sinks: dict[str, int]) -> Iterator[ast.expr]:
    """The expressions whose text a user reads."""
    only_errors = module.name.startswith(ONLY_ERRORS)
    wanted = ERRORS if only_errors else sinks
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            place = wanted.get(name_of(node.func))
            if place is not None and len(node.args) > place:
                yield node.args[place]
            named = (LOGIN,) if only_errors else KEYWORDS
            yield from (keyword.value for keyword in node.keywords if keyword.arg in named)
            pair = node.args[0] if node.args and name_of(node.func) == "append" else None
            if isinstance(pair, ast.Tuple) and len(pair.elts) == 2 and not only_errors:
                yield pair.elts[1]
        elif only_errors:
            continue
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from (v for k, v in pairs if isinstance(k, ast.Constant) and k.value in (*KEYWORDS, DETAIL))
        elif isinstance(node, ast.Return) and node.value is not None:
            scope = source.scope(node)
            if scope is not None and scope.name.endswith(RETURNING):
                yield node.value
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") in KEYWORDS:
            yield node.value


def _other_texts(module: Module, source: Source) -> Iterator[ast.expr]:
    """Texts of a module that no template has: phrases in tables, and sentences that come out on ways of their own."""
    inner: set[int] = set()  # docstrings, what is compared, what only a programmer reads, and the parts of f-strings
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr | ast.Compare | ast.Assert) or (
            isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and name_of(node.exc.func) in BUGS
        ):
            is_statement = isinstance(node, ast.Expr)
            inner |= {id(node.value)} if is_statement else {id(part) for part in ast.walk(node)}  # type: ignore[attr-defined]
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node) if part is not node and not isinstance(part, ast.JoinedStr)}
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in inner | source.seen:
            yield node


def templates() -> list[str]:
    """Every sentence and phrase once, in the order of the source."""
    source = Source(LEFT_OUT)
    sinks = _sinks(source)
    found: list[str] = []
    for module in source.modules:
        for root in _roots(module, source, sinks):
            found += source.texts(root, module, source.scope(root))
    for module in source.modules:
        for node in [] if module.name.startswith(ONLY_ERRORS) else list(_other_texts(module, source)):
            texts = source.texts(node, module, source.scope(node))
            found += [text for text in texts if len(PLAIN_WORD.findall(text)) > 2 and not CODE.search(text)]
    tidied = dict.fromkeys(tidy(text) for text in [*found, *source.inner])
    composed = [whole for text in tidied for whole in COMPOSED.get(text, [text]) if text not in PROGRAMMERS]
    composed += [text.replace(*SKIPPED) for text in composed if text.endswith(SKIPPED[0])]
    shown = (text for text in composed if WORDS.search(text) and not IMPOSSIBLE.search(text))
    return list(dict.fromkeys([*shown, *SHORT]))


def tidy(text: str) -> str:
    """The template in one line, with plain {names}: those of str.format are {name!r} and {share:.3g} in the source."""

    def plain(match: re.Match[str]) -> str:
        name, spec = match[1] or "value", match[2]
        return "{" + ("n_" if spec and NUMBER.fullmatch(spec) else "") + name + "}"

    line = FORMAT_FIELD.sub(plain, " ".join(text.split()))
    for part, named in RENAMED.items():
        line = line.replace(part, named)
    line = re.sub(rf"^\{{\w+\}}{WHOLE} |(?<=[.!?{WHOLE}]) \{{\w+\}}{WHOLE}(?= |$)", "", line)
    return numbered(line.replace(WHOLE, ""))


def numbered(template: str) -> str:
    """The template with each name once: a second {name} becomes {name2}."""
    counts: dict[str, int] = {}

    def once(match: re.Match[str]) -> str:
        name = re.sub(r"\d+$", "", match[1])
        counts[name] = counts.get(name, 0) + 1
        return "{" + name + (str(counts[name]) if counts[name] > 1 else "") + "}"

    return re.sub(r"\{([a-z_]\w*)\}", once, template)


SENTENCE_END = re.compile(r"(?:(?<=[.!?;])|(?<=[.!?;][\"”\u2019)]))\s+(?=[\"“\u2018'(]?[A-Z0-9])")
UNSURE_END = re.compile(r"[.!?;][\"”\u2019)]?\s+['(]?\{")
SENTENCE_BEFORE = re.compile(r"^\{\w+\} (?=[A-Z])")


def keys_of(template: str) -> list[str]:
    """The keys of the catalogue that translate a template: its sentences, or the whole where their ends are not sure."""
    template = SENTENCE_BEFORE.sub("", template)
    if UNSURE_END.search(template):
        return [numbered(template)]
    return [numbered(sentence) for sentence in SENTENCE_END.split(template)]


def keys() -> list[str]:
    """The keys that the catalogue needs."""
    return list(dict.fromkeys(key for template in templates() for key in keys_of(template)))


if __name__ == "__main__":
    print("\n".join(keys()))
