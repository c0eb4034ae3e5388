"""The texts that an expression of the source may be: templates with {names} for what is filled in. Imports neither package.

A constant, an f-string, a choice, a variable of the function, a constant or table of a module, or what a function
returns; {n_names} stand for one number.
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
    from error_reference import FAMILY, Function, Module, read_modules
    from error_reference import _name as name_of
finally:
    sys.path.pop(0)

__all__ = ["FAMILY", "Function", "Module", "Source", "assigned", "name_of"]
ALTERNATIVES, DEPTH = 24, 12
NUMBER = re.compile(r"[+,]*(\.\d+f|d)?")  # a format that writes a number as the catalogue reads one
NAMES = {  # where the name in the source says little
    **dict.fromkeys(["strerror", "getattr", "first_line", "splitlines", "error", "first", "msg"], "reason"),
    **dict.fromkeys(["shown_path", "expand"], "path"),
    **dict.fromkeys(["in_gigabytes", "format_bytes"], "size"),
}
PLAIN_CALLS = ("str", "repr", "sorted", "int", "max", "min", "list", "set", "map", "round", "join", "quoted", "len")
SAME_TEXT = ("format", "strip", "rstrip", "removesuffix", "removeprefix", "capitalize")
WORDS = re.compile(r"(?<![\w{])[A-Za-z][a-z']+(?![\w}])")
SENTENCE = re.compile(r"[A-Z{'“].*[.!?]$")
WHOLE = "\0"  # after a {name} that stands for whole sentences


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
    """The parsed files, and what a name in them stands for.

    Args:
        left_out: beginnings of the names of files whose texts are not wanted; their constants are known all the same.

    Attributes:
        seen: ids of the nodes whose text is part of a template.
        inner: whole sentences that stand in others.
    """

    def __init__(self, left_out: tuple[str, ...]) -> None:
        self.modules: list[Module] = [m for m in read_modules() if not m.name.startswith(left_out)]
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
        self.seen: set[int] = set()
        self.inner: list[str] = []

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
        if isinstance(node, ast.Call) and name_of(node.func) not in SAME_TEXT:
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
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Call) and name_of(node.func) == "get"):
            return self.table(
                node.value if isinstance(node, ast.Subscript) else getattr(node.func, "value", node), module
            )
        if isinstance(node, ast.Call):
            name = name_of(node.func)
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
        if isinstance(node, ast.Call) and name_of(node.func) == "len":
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
        name, is_method = name_of(node.func), isinstance(node.func, ast.Attribute)
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
