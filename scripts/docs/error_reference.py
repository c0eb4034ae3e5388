"""The error sentences of both packages, read from their source: raised, appended to a list of problems, or returned by
a function named ..._problem. Imports none of them, so it needs no torch.

A sentence is an f-string in the source. What it fills in is shown as a word in angle brackets: {str(path)!r} becomes
‹path›, {', '.join(known)} becomes ‹known, …›.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAMILY = {"GekoError", "ConfigError", "DataError", "ModelError", "CheckpointError", "RunError", "UnusableRow"}
FAMILY |= {"ExportError"}
FAMILY |= {"family"}  # hub: ModelError or DataError, whichever was asked for
AREAS: dict[str, tuple[str, ...]] = {
    "Settings": ("geko_engine/config", "geko_engine/cli", "geko_app/form"),
    "Data": ("geko_engine/data",),
    "Hugging Face Hub": ("geko_engine/hub",),
    "Model, LoRA and quantization": ("geko_engine/models", "geko_engine/scoring"),
    "Before a run starts": ("geko_engine/preflight",),
    "Training and checkpoints": ("geko_engine",),
    "Run folder and disk": ("geko_engine/runs", "geko_engine/storage", "geko_app/runs"),
    "Asking a model": ("geko_engine/inference", "geko_app/workers/inference", "geko_app/views/playground"),
    "The page": ("geko_app",),
}
REASON = "reason"  # what the operating system, the Hub or another library says
WORDS = {  # where the name in the source would puzzle a reader
    "strerror": REASON,
    "said": REASON,
    "__name__": "type",
    "parent": "folder",
    "root": "folder",
    "existing": "folder",
    "line num": "number",
    "describe": "kind of value",
    "describe range": "allowed range",
    "in gigabytes": "size",
    "linear names": "names",
    "looks like": "guess",
    "masked": "number",
}
FIELD = re.compile(r"\{(\w+)(?:![rs])?\}")
RETURNING = ("_problem", "_violation", "_unreadable", "unknown_key")  # functions that return sentences
Function = ast.FunctionDef | ast.AsyncFunctionDef
NOWHERE = ast.parse("def nowhere(): pass").body[0]


@dataclass(frozen=True)
class Sentence:
    """One error: the file that raises it, the text with ‹words› for what is filled in, and the setting to change or ""."""

    module: str
    text: str
    setting: str = ""


@dataclass
class Module:
    """One parsed file: its functions and the constants at its top."""

    name: str
    tree: ast.Module
    functions: list[Function] = field(default_factory=list)
    constants: dict[str, ast.expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.functions = [node for node in ast.walk(self.tree) if isinstance(node, Function)]
        for statement in self.tree.body:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            value = getattr(statement, "value", None)
            if isinstance(target, ast.Name) and value is not None:
                self.constants[target.id] = value

    @property
    def helpers(self) -> dict[str, Function]:
        """The functions at the top of the file by name: those that a text may come from."""
        return {node.name: node for node in self.tree.body if isinstance(node, Function)}


def read_modules(root: Path = ROOT) -> list[Module]:
    """Both packages, file by file."""
    files = sorted([*root.glob("geko_engine/**/*.py"), *root.glob("geko_app/**/*.py")])
    return [Module(f.relative_to(root).as_posix(), ast.parse(f.read_text(encoding="utf-8"))) for f in files]


class Reader:
    """Finds the sentences of all modules. `unread` lists the raise sites whose text is made elsewhere."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = modules
        self.constants = {name: value for m in modules for name, value in m.constants.items() if name.isupper()}
        self.functions = {name: (m, node) for m in modules for name, node in m.helpers.items()}
        self.unread: list[tuple[str, int]] = []
        self._module, self._scope = modules[0], NOWHERE  # what a name is looked up in

    def sentences(self) -> list[Sentence]:
        """Every sentence once, in the order of the source."""
        found: dict[str, Sentence] = {}
        for module in self.modules:
            for scope in module.functions:
                for sentence in self._of_function(module, scope):
                    found.setdefault(sentence.text, sentence)
        return list(found.values())

    def _of_function(self, module: Module, scope: Function) -> Iterator[Sentence]:
        returns_sentences = scope.name.endswith(RETURNING)
        for node in ast.walk(scope):
            call = _raised(node)
            if call is not None:
                text, setting = call
                found = self._sentences_in(text, module, scope)
                if not found and _name(getattr(node, "func", node)) in FAMILY:
                    self.unread.append((module.name, node.lineno))  # type: ignore[attr-defined]
                row = "Row ‹number›: " if _name(getattr(node, "func", node)) == "UnusableRow" else ""
                for one in found:
                    yield Sentence(module.name, row + one, self._setting(setting))
            elif returns_sentences and isinstance(node, ast.Return) and node.value is not None:
                for one in self._sentences_in(node.value, module, scope):
                    yield Sentence(module.name, one)

    def _sentences_in(self, node: ast.expr, module: Module, scope: Function) -> list[str]:
        return [_tidy(text) for text in self._texts(node, module, scope) if " " in text.strip()]

    def _texts(self, node: ast.expr, module: Module, scope: Function, depth: int = 0) -> list[str]:
        """All texts that an expression may be: a constant, an f-string, a choice, a variable or a helper's result."""
        if depth > 3:
            return []
        if isinstance(node, ast.Constant | ast.JoinedStr):
            self._module, self._scope = module, scope
            return [self.readable(node)]
        if isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.BoolOp):
            parts = node.values
        elif isinstance(node, ast.Name) and self._constant(node.id) is not None:
            parts = [self.constants[node.id]]
        elif isinstance(node, ast.Name):
            parts = _assigned(node.id, scope)
        elif isinstance(node, ast.Call) and _name(node.func) == "format" and isinstance(node.func, ast.Attribute):
            return self._templates(node.func.value, scope)
        elif isinstance(node, ast.Call) and _name(node.func) in self.functions:
            module, scope = self.functions[_name(node.func)]
            parts = [r.value for r in ast.walk(scope) if isinstance(r, ast.Return) and r.value is not None]
        else:
            parts = []
        return [text for part in parts for text in self._texts(part, module, scope, depth + 1)]

    def _templates(self, name: ast.expr, scope: Function) -> list[str]:
        """The sentences of a table of templates, where `name` runs over it: "... {name!r} ..." -> "... ‹name› ..."."""
        loops = [loop for loop in ast.walk(scope) if isinstance(loop, ast.For) and isinstance(loop.iter, ast.Name)]
        mine = [loop.iter.id for loop in loops if isinstance(name, ast.Name) and name.id in ast.unparse(loop.target)]  # type: ignore[attr-defined]
        tables = [self.constants[table] for table in mine if table in self.constants]
        texts = [n.value for table in tables for n in ast.walk(table) if isinstance(n, ast.Constant)]
        return [FIELD.sub(lambda found: f"‹{WORDS.get(found[1], found[1])}›", text) for text in texts if "{" in text]

    def _setting(self, node: ast.expr | None) -> str:
        if isinstance(node, ast.Name):
            node = self._constant(node.id)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""

    def _constant(self, name: str) -> ast.expr | None:
        return self._module.constants.get(name) or self.constants.get(name) if name.isupper() else None

    # ------------------------------------------------------------ what is filled in, as a word
    def readable(self, node: ast.expr) -> str:
        """A text expression with ‹words› in the place of what is filled in."""
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.readable(part) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self._filled(node.value)
        return f"‹{self.word(node)}›"

    def _filled(self, node: ast.expr) -> str:
        """A constant as it is, a piece of text that is chosen on the way as it mostly is, else a ‹word›."""
        known = self._known(node)
        if known:
            return known
        if isinstance(node, ast.IfExp):
            return self.readable(node.orelse)
        if isinstance(node, ast.Name):
            pieces = [piece for value in _assigned(node.id, self._scope) for piece in _pieces(value)]
            if pieces:
                return self.readable(pieces[-1])
        return f"‹{self.word(node)}›"

    def _known(self, node: ast.expr) -> str:
        """The text of a constant of the module, of a list of them, or of a product with one; "" for what is no constant."""
        if isinstance(node, ast.Call) and _name(node.func) == "join" and isinstance(node.args[0], ast.Name):
            items = self._items(self._constant(node.args[0].id))
            return ", ".join(items)
        if isinstance(node, ast.Name) and isinstance(value := self._constant(node.id), ast.Constant):
            return f"{value.value:,}" if isinstance(value.value, int) else str(value.value)
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and isinstance(node.right, ast.Constant):
            value = self._constant(node.left.id)
            if isinstance(value, ast.Constant):
                share = node.right.value if isinstance(node.op, ast.Mult) else 1 / node.right.value  # type: ignore[operator]
                return f"{value.value * share:g}"  # type: ignore[operator]
        return ""

    def _items(self, node: ast.expr | None) -> list[str]:
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Name):  # tuple(A_DICT)
            node = self._constant(node.args[0].id)
        parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        return [str(part.value) for part in parts if isinstance(part, ast.Constant)]

    def word(self, node: ast.expr) -> str:
        """A short name for the value of an expression."""
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if names & {"error", "problem", "reason", "reasons"}:
            return REASON
        if isinstance(node, ast.Name):
            return _spaced(node.id)
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            plain = node.attr in ("id", "name", "pid") and owner not in ("", "self", "config", "asked")
            return _spaced(f"{owner}_{node.attr}" if plain else node.attr)
        if isinstance(node, ast.Call):
            return self._word_of_call(node)
        if isinstance(node, ast.Subscript):
            return self.word(node.value).removesuffix("s")
        if isinstance(node, ast.BinOp):
            return self.word(node.left)
        return self.word(node.values[0]) if isinstance(node, ast.BoolOp) else "…"

    def _word_of_call(self, node: ast.Call) -> str:
        called = _name(node.func)
        if called == "join":
            return f"{self.word(node.args[0])}, …"
        if called == "len":
            return "number"
        if called in dir(builtins) and node.args:
            return self.word(node.args[-1] if called == "map" else node.args[0])
        return _spaced(called)


def _raised(node: ast.AST) -> tuple[ast.expr, ast.expr | None] | None:
    """(text, setting) of an error that is made, or of a (setting, text) pair that is added to a list of problems."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = _name(node.func)
    if called in FAMILY:
        return node.args[0], node.args[1] if len(node.args) > 1 else None
    pair = node.args[0]
    if called == "append" and isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(owner, ast.Name) and owner.id in ("problems", "found"):
            return pair.elts[1], pair.elts[0]
    return None


def _name(function: ast.expr) -> str:
    return getattr(function, "id", "") or getattr(function, "attr", "")


def _assigned(name: str, scope: Function) -> list[ast.expr]:
    """The values that a variable is given in a function."""
    found = [node for node in ast.walk(scope) if isinstance(node, ast.Assign)]
    return [a.value for a in found if any(isinstance(t, ast.Name) and t.id == name for t in a.targets)]


def _pieces(node: ast.expr) -> list[ast.expr]:
    """The texts in a choice of texts; none where the value is anything else."""
    if isinstance(node, ast.IfExp):
        return [*_pieces(node.body), *_pieces(node.orelse)]
    is_text = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [node] if is_text else []


def _spaced(name: str) -> str:
    spaced = name.strip("_").replace("_", " ").lower()
    return WORDS.get(name) or WORDS.get(spaced) or spaced


def _tidy(text: str) -> str:
    """One line with a full stop at its end."""
    line = " ".join(text.split())
    return line + ("" if line.endswith((".", "!", "?", ":", "›")) else ".")


def area_of(module: str) -> str:
    """The heading that a module's errors stand under: that of the longest prefix."""
    fitting = [
        (len(prefix), area) for area, prefixes in AREAS.items() for prefix in prefixes if module.startswith(prefix)
    ]
    return max(fitting)[1]


def errors_markdown(sentences: Sequence[Sentence], known_settings: Mapping[str, object]) -> str:
    """The list of errors by area, each with a link to the setting that it names."""
    lines: list[str] = []
    for area in AREAS:
        mine = [s for s in sentences if area_of(s.module) == area]
        lines += [f"### {area}", ""] if mine else []
        for sentence in sorted(mine, key=lambda s: s.text.lstrip("‹'").lower()):
            link = (
                f" → [`{sentence.setting}`](settings.md#{sentence.setting})"
                if sentence.setting in known_settings
                else ""
            )
            lines.append(f"- {_escaped(sentence.text)}{link}")
        lines.append("")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """The sentence as Markdown shows it: nothing in it is markup, and what is filled in stands in italics."""
    safe = "".join(f"\\{c}" if c in "\\`*_[]#|<>{}" else c for c in text)
    return safe.replace("‹", "<em>‹").replace("›", "›</em>")
