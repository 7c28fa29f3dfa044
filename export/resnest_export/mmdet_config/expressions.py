"""Evaluates the expressions that a configuration may use, with Python's syntax tree; nothing is executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from resnest_export.mmdet_config.values import Place, Section, Unevaluated, Value, shortened

MAX_ITEMS = 100_000  # of a sequence or string
MAX_BITS = 1024  # of an integer
NUMBERS = (int, float)
SCALARS = (type(None), bool, int, float, str)
BUILTIN_CONTAINERS = {"dict", "list", "tuple", "set"}

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: lambda a, b: _is(a, b),
    ast.IsNot: lambda a, b: not _is(a, b),
}
PURE: dict[str, Callable[..., Any]] = {
    "len": len, "min": min, "max": max, "abs": abs, "round": round, "int": int, "float": float, "bool": bool
}  # fmt: skip
"""Functions that are evaluated: `len` of containers and strings, the others of numbers."""
METHODS: dict[type, frozenset[str]] = {
    Section: frozenset({"update", "pop", "setdefault", "get", "copy"}),
    list: frozenset({"append", "extend", "insert", "pop", "copy"}),
}
"""Methods of plain data that are evaluated; they only move values."""


class NotEvaluatedError(Exception):
    """An expression's value isn't known; `why` completes a sentence that begins with the expression."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Expressions:
    """Evaluates expressions among the names assigned so far.

    Args:
        names: the configuration's variables; `_base_` holds the merged base configurations.
        source: what the configuration is called in messages.
        variables: mmengine's predefined variables, such as fileDirname, that strings may hold in double braces.
    """

    def __init__(self, names: dict[str, Value], source: str, variables: dict[str, str]) -> None:
        self.names = names
        self.source = source
        self.variables = variables
        self.not_evaluated: list[ast.expr] = []
        """Expressions that were found unknown since the list was cleared."""
        self.made_calls: set[int] = set()
        """Calls that were evaluated, by the identity of their node."""

    def place(self, node: ast.AST) -> Place:
        return Place(self.source, getattr(node, "lineno", 1))

    def unknown(self, node: ast.AST, why: str) -> Unevaluated:
        """Return the marker of a value that can't be evaluated."""
        try:
            text = " ".join(ast.unparse(node).split())
        except (RecursionError, ValueError):
            text = type(node).__name__
        return Unevaluated(self.place(node), text if len(text) <= 60 else f"{text[:57]}...", why)

    def evaluate(self, node: ast.expr) -> Value:
        """Return an expression's value, or the marker that says why it isn't known."""
        try:
            return self._value(node)
        except NotEvaluatedError as error:
            self.not_evaluated.append(node)
            return self.unknown(node, error.why)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # Python would fail as well
            return self.unknown(node, f"fails ({type(error).__name__}: {error})")

    def known(self, node: ast.expr) -> Value:
        """Evaluate an operand, of which all must be known."""
        value = self._value(node)
        if isinstance(value, Unevaluated):
            raise NotEvaluatedError(f"needs {value}")
        return value

    def _value(self, node: ast.expr) -> Value:
        handler = getattr(self, f"_{type(node).__name__.lower()}", None)
        if handler is None:
            raise NotEvaluatedError("is code, which isn't run")
        return handler(node)

    def _constant(self, node: ast.Constant) -> Value:
        value = node.value
        if not isinstance(value, SCALARS):
            raise NotEvaluatedError(f"is of type {type(value).__name__}")
        return self._substituted(value) if isinstance(value, str) and "{{" in value else value

    def _substituted(self, text: str) -> str:
        for name, value in self.variables.items():
            for form in (f"{{{{{name}}}}}", f"{{{{ {name} }}}}"):
                text = text.replace(form, value.replace("\\", "/"))
        if "{{" in text and ("$" in text or "_base_" in text):
            raise NotEvaluatedError("depends on an environment variable or on a base inside a string")
        return text

    def _name(self, node: ast.Name) -> Value:
        if node.id not in self.names:
            raise NotEvaluatedError("isn't assigned above")
        return self.names[node.id]

    def _list(self, node: ast.List) -> Value:
        return self._items(node.elts)

    def _tuple(self, node: ast.Tuple) -> Value:
        return tuple(self._items(node.elts))

    def _set(self, node: ast.Set) -> Value:
        inner = node.elts[0] if len(node.elts) == 1 else None
        if isinstance(inner, ast.Set) and len(inner.elts) == 1:  # {{_base_.x}}: no set of sets exists in Python
            if _root(inner.elts[0]) == "_base_":
                return self._value(inner.elts[0])
            raise NotEvaluatedError("depends on an environment variable")
        return _as_set(self._items(node.elts))

    def _items(self, nodes: list[ast.expr]) -> list[Value]:
        items: list[Value] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items += _sequence(self.known(node.value))
            else:
                items.append(self.evaluate(node))
        return items

    def _dict(self, node: ast.Dict) -> Section:
        section = Section()
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                section.add(_section(self.known(value)))
            else:
                section.put(_key(self.known(key)), self.evaluate(value), self.place(key))
        return section

    def _call(self, node: ast.Call) -> Value:
        function = node.func
        if isinstance(function, ast.Name) and function.id in BUILTIN_CONTAINERS and function.id not in self.names:
            value = self._container(function.id, node)
        elif isinstance(function, ast.Name) and function.id in PURE and function.id not in self.names:
            value = self._pure(function.id, node)
        else:
            target = self.evaluate(function.value) if isinstance(function, ast.Attribute) else None
            name = function.attr if isinstance(function, ast.Attribute) else ""
            if name not in METHODS.get(type(target), ()):
                raise NotEvaluatedError("is a call, which isn't made")
            value = self._method(target, name, node)
        self.made_calls.add(id(node))
        return value

    def _pure(self, name: str, node: ast.Call) -> Value:
        arguments = [self.known(argument) for argument in node.args]
        accepted = (Section, list, tuple, set, str) if name == "len" else NUMBERS
        if node.keywords or not all(isinstance(argument, accepted) for argument in arguments):
            raise NotEvaluatedError("is a call that isn't made with these arguments")
        return PURE[name](*arguments)

    def _container(self, kind: str, node: ast.Call) -> Value:
        if len(node.args) > 1 or (node.keywords and kind != "dict"):
            raise NotEvaluatedError("has arguments that it doesn't take")
        if kind == "dict":
            return self._dict_of(node)
        items = _sequence(self.known(node.args[0])) if node.args else []
        return _as_set(items) if kind == "set" else tuple(items) if kind == "tuple" else items

    def _dict_of(self, node: ast.Call) -> Section:
        section = _section(self.known(node.args[0])) if node.args else Section()
        section = Section(section)
        seen: set[str] = set()
        for keyword in node.keywords:
            if keyword.arg is None:
                addition = _section(self.known(keyword.value))
                keys = set(addition)
                section.add(addition)
            else:
                keys = {keyword.arg}
                section.put(keyword.arg, self.evaluate(keyword.value), self.place(keyword))
            if keys & seen:
                raise NotEvaluatedError(f"gives {sorted(keys & seen)[0]!r} twice")
            seen |= keys
        return section

    def _method(self, target: Any, name: str, node: ast.Call) -> Value:
        if isinstance(target, Section) and name == "update":
            call = ast.Call(func=ast.Name(id="dict", ctx=ast.Load()), args=node.args, keywords=node.keywords)
            target.add(self._dict_of(ast.copy_location(call, node)))
            return None
        if node.keywords:
            raise NotEvaluatedError("has arguments that it doesn't take")
        if name == "copy":
            return Section(target) if isinstance(target, Section) else list(target)
        arguments = self._items(node.args)
        if name in ("get", "pop", "setdefault", "insert") and arguments and isinstance(arguments[0], Unevaluated):
            raise NotEvaluatedError(f"needs {arguments[0]}")
        if name == "extend":
            arguments = [_sequence(self.known(node.args[0]))]
        return getattr(target, name)(*arguments)

    def _subscript(self, node: ast.Subscript) -> Value:
        container = self.known(node.value)
        if not isinstance(container, (Section, list, tuple, str)):
            raise NotEvaluatedError("takes an item of what has none")
        return container[self.index(node.slice)]

    def index(self, node: ast.expr) -> Any:
        """Evaluate what stands in brackets."""
        if isinstance(node, ast.Slice):
            parts = [self.known(part) if part else None for part in (node.lower, node.upper, node.step)]
            return slice(*parts)
        return self.known(node)

    def _attribute(self, node: ast.Attribute) -> Value:
        if _root(node) != "_base_":
            raise NotEvaluatedError("is an attribute, which isn't looked up")
        return _section(self.known(node.value))[node.attr]

    def _binop(self, node: ast.BinOp) -> Value:
        if type(node.op) not in BINARY:
            raise NotEvaluatedError("uses an operator that isn't evaluated")
        return binary(node.op, self.known(node.left), self.known(node.right))

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        value = self.known(node.operand)
        if not isinstance(node.op, ast.Not) and not isinstance(value, NUMBERS):
            raise NotEvaluatedError("isn't arithmetic of numbers")
        return UNARY[type(node.op)](value)

    def _boolop(self, node: ast.BoolOp) -> Value:
        value: Value = None
        for operand in node.values:
            value = self.known(operand)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def _compare(self, node: ast.Compare) -> Value:
        left = self.known(node.left)
        for kind, operand in zip(node.ops, node.comparators, strict=True):
            right = self.known(operand)
            if type(kind) not in COMPARISONS or not isinstance(left, SCALARS) or not isinstance(right, SCALARS):
                raise NotEvaluatedError("compares more than numbers and strings")
            if not COMPARISONS[type(kind)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp) -> Value:
        return self.evaluate(node.body if self.known(node.test) else node.orelse)

    def _joinedstr(self, node: ast.JoinedStr) -> Value:
        parts: list[str] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.known(part.value)
                if part.format_spec is not None or part.conversion != -1 or not isinstance(value, SCALARS):
                    raise NotEvaluatedError("formats a value in a way that isn't evaluated")
                parts.append(str(value))
            else:
                parts.append(str(self.known(part)))
        return _bounded("".join(parts))


def binary(kind: ast.operator, left: Any, right: Any) -> Value:
    """Return the result of arithmetic or concatenation, within bounds that keep it fast.

    Raises:
        NotEvaluatedError: the operator or the operands aren't supported, or the result is too large.
    """
    numeric = isinstance(left, NUMBERS) and isinstance(right, NUMBERS)
    joined = isinstance(kind, ast.Add) and type(left) is type(right) and isinstance(left, (str, list, tuple))
    repeated = isinstance(kind, ast.Mult) and sorted(map(_is_count, (left, right))) == [False, True]
    if repeated:
        count, items = (left, right) if _is_count(left) else (right, left)
        if isinstance(items, NUMBERS):
            numeric = True
        elif not isinstance(items, (str, list, tuple)) or count * len(items) > MAX_ITEMS:
            raise NotEvaluatedError("repeats too much, or what can't be repeated")
    if not (numeric or joined or repeated):
        raise NotEvaluatedError(f"doesn't combine numbers or sequences ({shortened(left)}, {shortened(right)})")
    if isinstance(kind, ast.Pow) and abs(right) * max(int(abs(left)).bit_length(), 1) > MAX_BITS:
        raise NotEvaluatedError("is too large a power")
    result = BINARY[type(kind)](left, right)
    if isinstance(result, complex):
        raise NotEvaluatedError("is a complex number")
    return _bounded(result)


def _bounded(value: Value) -> Value:
    is_long = isinstance(value, (str, list, tuple)) and len(value) > MAX_ITEMS
    if is_long or (isinstance(value, int) and value.bit_length() > MAX_BITS):
        raise NotEvaluatedError("is too large")
    return value


def _is(left: Any, right: Any) -> bool:
    return left is right or (left == right and isinstance(left, str))


def _is_count(value: Any) -> bool:
    return isinstance(value, int)


def _root(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _key(value: Any) -> Any:
    if not isinstance(value, SCALARS):
        raise NotEvaluatedError("has a key that is neither a string nor a number")
    return value


def _sequence(value: Any) -> list[Value]:
    if not isinstance(value, (list, tuple, set, Section, str)):
        raise NotEvaluatedError("unpacks what isn't a sequence")
    return sorted(value, key=repr) if isinstance(value, set) else list(value)


def _section(value: Any) -> Section:
    if isinstance(value, Section):
        return value
    if isinstance(value, list) and all(isinstance(item, (list, tuple)) and len(item) == 2 for item in value):
        return Section((_key(key), item) for key, item in value)
    raise NotEvaluatedError("needs a dictionary")


def _as_set(items: list[Value]) -> set[Value]:
    if not all(isinstance(item, SCALARS) for item in items):
        raise NotEvaluatedError("is a set of more than numbers and strings")
    return set(items)
