"""What a user of the page may read when something is wrong or worth knowing, read from the source of both packages.

Found are raised errors, events for the user (messages, findings, ends of runs), refused requests, Gradio's notices, and
the phrases that these are made of. A sentence is an f-string in the source: each of its alternatives is a template with
{names} for what is filled in; {n_names} stand for one number. Imports neither package.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "docs"))
try:
    from error_reference import FAMILY, Function, Module, _name, read_modules
finally:
    sys.path.pop(0)

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
DETAIL = "detail"  # of a refused request
RETURNING = ("_problem", "_sentence", "_reason")  # ends of the names of functions that return sentences
ALTERNATIVES, DEPTH = 24, 12
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
WHOLE = "\0"  # after a {name} that stands for whole sentences
NUMBER = re.compile(r"[+,]*(\.\d+f|d)?")  # a format that writes a number as the catalogue reads one
NAMES = {  # where the name in the source says little
    **dict.fromkeys(["strerror", "getattr", "first_line", "splitlines", "error", "first", "msg"], "reason"),
    **dict.fromkeys(["shown_path", "expand"], "path"),
    **dict.fromkeys(["in_gigabytes", "format_bytes"], "size"),
}
PLAIN_CALLS = ("str", "repr", "sorted", "int", "max", "min", "list", "set", "map", "round", "join", "quoted", "len")
SAME_TEXT = ("format", "strip", "rstrip", "removesuffix", "removeprefix", "capitalize")
WORDS = re.compile(r"(?<![\w{])[A-Za-z][a-z']+(?![\w}])")
PLAIN_WORD = re.compile(r"(?<!\S)[('“]?[A-Za-z'-]+[,.;:)\u2019”]*(?!\S)")
SENTENCE = re.compile(r"[A-Z{'“].*[.!?]$")
CODE = re.compile(r"\\[bdn]|\{%|\{\{|\n|\|.*\||^probe of|__|^[,;]")
FORMAT_FIELD = re.compile(r"\{(\w*)(?:![rs])?(?::([^{}]*))?\}")


def own(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions in it."""
    nodes = list(ast.iter_child_nodes(function))
    while nodes:
        node = nodes.pop(0)
        yield node
        if not isinstance(node, Function | ast.Lambda):
            nodes[:0] = ast.iter_child_nodes(node)


def assigned(name: str, scope: Function | None) -> list[ast.expr]:
    """The values that a variable is given in a function."""
    found: list[ast.expr] = []
    for node in ast.walk(scope) if scope else ():
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                found += [value for one, value in pairs if isinstance(one, ast.Name) and one.id == name]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            found += [node.value] if isinstance(node.target, ast.Name) and node.target.id == name else []
    return found


class Source:
    """The parsed files, and what a name in them stands for."""

    def __init__(self) -> None:
        self.modules: list[Module] = [m for m in read_modules() if not m.name.startswith(LEFT_OUT)]
        self.parents = {c: n for m in self.modules for n in ast.walk(m.tree) for c in ast.iter_child_nodes(n)}
        self.constants: dict[str, list[tuple[Module, ast.expr]]] = {}
        self.functions: dict[str, list[tuple[Module, Function]]] = {}
        for module in read_modules():
            for name, value in module.constants.items():
                if name.strip("_").isupper():
                    self.constants.setdefault(name, []).append((module, value))
        for module in self.modules:
            for function in module.functions:
                self.functions.setdefault(function.name, []).append((module, function))
        self.seen: set[int] = set()  # nodes whose text is part of a template
        self.inner: list[str] = []  # whole sentences that stand in others

    def scope(self, node: ast.AST) -> Function | None:
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, Function):
                return node
        return None

    def constant(self, name: str, module: Module) -> tuple[Module, ast.expr] | None:
        """The value of a constant of the module, or of one that has its name for itself."""
        if name in module.constants:
            return module, module.constants[name]
        found = self.constants.get(name, [])
        return found[0] if len(found) == 1 else None

    def texts(self, node: ast.expr, module: Module, scope: Function | None, depth: int = 0) -> list[str]:
        """The templates that an expression may be; what is not known is a {name}."""
        unknown = ["{" + word(node) + "}"]
        if depth > DEPTH:
            return unknown
        if isinstance(node, ast.Constant):
            self.seen.add(id(node))
            return [node.value] if isinstance(node.value, str) else unknown if node.value is not None else []
        if isinstance(node, ast.JoinedStr):
            return self.joined(node, module, scope, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = (self.texts(part, module, scope, depth + 1) for part in (node.left, node.right))
            return [a + b for a in left for b in right][:ALTERNATIVES]
        if isinstance(node, ast.NamedExpr):
            return self.texts(node.value, module, scope, depth + 1)
        parts, module, scope = self.parts(node, module, scope)
        found = list(dict.fromkeys(text for part in parts for text in self.texts(part, module, scope, depth + 1)))
        if isinstance(node, ast.Call) and _name(node.func) not in SAME_TEXT:
            found = [text for text in found if text]  # "" says that there is nothing to say
        return found or unknown

    def parts(
        self, node: ast.expr, module: Module, scope: Function | None
    ) -> tuple[Sequence[ast.expr], Module, Function | None]:
        """The expressions that an expression chooses from, and where they stand."""
        if isinstance(node, ast.IfExp):
            return [node.body, node.orelse], module, scope
        if isinstance(node, ast.BoolOp):
            return node.values, module, scope
        if isinstance(node, ast.Name):
            values = assigned(node.id, scope)
            known = None if values else self.constant(node.id, module)
            return ([known[1]], known[0], None) if known else (values, module, scope)
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Call) and _name(node.func) == "get"):
            return self.table(
                node.value if isinstance(node, ast.Subscript) else getattr(node.func, "value", node), module
            )
        if isinstance(node, ast.Call):
            name = _name(node.func)
            if isinstance(node.func, ast.Attribute) and name in SAME_TEXT:
                return [node.func.value], module, scope
            functions = self.functions.get(name, [])
            if len(functions) == 1:
                module, function = functions[0]
                returned = [
                    n.value for n in own(function) if isinstance(n, ast.Return | ast.Yield) and n.value is not None
                ]
                return returned, module, function
        return [], module, scope

    def table(self, node: ast.expr, module: Module) -> tuple[Sequence[ast.expr], Module, None]:
        known = self.constant(node.id, module) if isinstance(node, ast.Name) else None
        if known is None:
            return [], module, None
        values = known[1].values if isinstance(known[1], ast.Dict) else getattr(known[1], "elts", [])
        return values, known[0], None

    def joined(self, node: ast.JoinedStr, module: Module, scope: Function | None, depth: int) -> list[str]:
        self.seen |= {id(node), *(id(value) for value in node.values)}
        choices = [self.filled(value, module, scope, depth) for value in node.values]
        for most in (6, 3, 2, 1):
            if _product(choices) <= ALTERNATIVES:
                break
            choices = [
                c if len(c) <= most else ["{" + word(v) + "}"] for c, v in zip(choices, node.values, strict=True)
            ]
        return list(dict.fromkeys("".join(parts) for parts in itertools.product(*choices)))

    def filled(self, value: ast.expr, module: Module, scope: Function | None, depth: int) -> list[str]:
        if not isinstance(value, ast.FormattedValue):
            return self.texts(value, module, scope, depth)
        node, name = value.value, word(value.value)
        known = self.constant(node.id, module) if isinstance(node, ast.Name) and not assigned(node.id, scope) else None
        if known and isinstance(known[1], ast.Constant) and isinstance(known[1].value, int | float):
            return [f"{known[1].value:,}" if isinstance(known[1].value, int) else str(known[1].value)]
        if value.format_spec is not None:
            is_number = NUMBER.fullmatch("".join(str(getattr(v, "value", "?")) for v in value.format_spec.values))  # type: ignore[attr-defined]
            return ["{n_" + name + "}" if is_number else "{" + name + "}"]
        if isinstance(node, ast.Call) and _name(node.func) == "len":
            return ["{n_" + name + "}"]
        found = self.texts(node, module, scope, depth + 1) if value.conversion == -1 else []
        if not found or not all(WORDS.search(text) or text in ("", "s") for text in found):
            return ["{" + name + "}"]
        sentences = [text for text in found if SENTENCE.match(text)]
        if sentences:
            self.inner += sentences
            return ["{" + name + "}" + (WHOLE if all(text[0].isupper() for text in sentences) else "")]
        return found


def _product(choices: Sequence[Sequence[str]]) -> int:
    count = 1
    for choice in choices:
        count *= len(choice)
    return count


def word(node: ast.AST) -> str:
    """A short name for the value of an expression."""
    if isinstance(node, ast.FormattedValue | ast.Subscript | ast.NamedExpr | ast.Starred):
        return word(node.value)
    found = "value"
    if isinstance(node, ast.Name | ast.Attribute):
        found = getattr(node, "id", "") or getattr(node, "attr", "")
        if found == "__name__":
            return "type"
    elif isinstance(node, ast.Call):
        name, is_method = _name(node.func), isinstance(node.func, ast.Attribute)
        if is_method and name in (*SAME_TEXT, "split", "splitlines", "get", "keys"):
            return word(node.func.value)  # type: ignore[attr-defined]
        found = word(node.args[-1]) if node.args and name in PLAIN_CALLS else name
    elif isinstance(node, ast.BinOp | ast.IfExp | ast.BoolOp):
        parts = [getattr(node, "left", None), getattr(node, "right", None), getattr(node, "body", None)]
        named = [word(part) for part in (*parts, *getattr(node, "values", [])) if part is not None]
        found = next((name for name in named if name != "value"), "value")
    elif isinstance(node, ast.GeneratorExp | ast.ListComp):
        found = word(node.generators[0].iter)
    found = found.strip("_").lower()
    return NAMES.get(found, found) or "value"


def _sinks(source: Source) -> dict[str, int]:
    """Calls that take a text for the user, with its position: those that are known, and functions that hand it on."""
    sinks = {**ERRORS, **EVENTS, **CALLBACKS}
    for _ in range(3):
        for module in source.modules:
            for node in ast.walk(module.tree):
                if not isinstance(node, ast.Call) or _name(node.func) not in sinks:
                    continue
                scope, place = source.scope(node), sinks[_name(node.func)]
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
            place = wanted.get(_name(node.func))
            if place is not None and len(node.args) > place:
                yield node.args[place]
            if not only_errors:
                yield from (keyword.value for keyword in node.keywords if keyword.arg in KEYWORDS)
            pair = node.args[0] if node.args and _name(node.func) == "append" else None
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
            isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _name(node.exc.func) in BUGS
        ):
            is_statement = isinstance(node, ast.Expr)
            inner |= {id(node.value)} if is_statement else {id(part) for part in ast.walk(node)}  # type: ignore[attr-defined]
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node) if part is not node and not isinstance(part, ast.JoinedStr)}
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in inner | source.seen:
            yield node


def templates() -> list[str]:
    """Every sentence and phrase once, in the order of the source."""
    source = Source()
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


SENTENCE_END = re.compile(r"(?:(?<=[.!?:;])|(?<=[.!?:;][\"”\u2019)]))\s+(?=[\"“\u2018'(]?[A-Z0-9])")
UNSURE_END = re.compile(r"[.!?:;][\"”\u2019)]?\s+['(]?\{")
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
