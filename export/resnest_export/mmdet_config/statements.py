"""Follows the statements of a configuration: assignments of plain data; everything else makes names unknown."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from resnest_core.errors import ConfigError
from resnest_export.mmdet_config.expressions import (
    BINARY,
    Expressions,
    NotEvaluatedError,
    binary,
)
from resnest_export.mmdet_config.values import Place, Section, Unevaluated, Value, containers_in

REACHES_ALL = {"exec", "eval", "globals", "locals", "vars", "setattr", "delattr", "compile", "__import__"}
"""Calls that can change any variable."""
READ_BY_MMDETECTION = ("model", "train_cfg", "test_cfg", "data", "test_dataloader", "val_dataloader", "tta_model")
"""Variables that a star import may define."""
BASE = "_base_"
CHANGED = "may be changed by code that isn't run"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ALIASING = (ast.comprehension, ast.NamedExpr, ast.Lambda)
"""Code that gives a container another name for the duration of an expression."""

_FAILURES = (NotEvaluatedError, ArithmeticError, LookupError, TypeError, ValueError)


class Statements:
    """Runs the statements that only move plain data, in order, and marks what any other may have changed."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.names = expressions.names
        self.local_code: set[str] = set()
        """Names of code defined in the configuration, which can reach all its variables once it is called."""
        self.places: dict[str, Place] = {}
        """Where each variable was assigned last."""

    def run(self, body: Iterable[ast.stmt]) -> None:
        """Follow statements.

        Raises:
            ConfigError: the configuration is in mmengine's Python style, whose bases are imports.
        """
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            value = self._evaluated(node.value)
            if _names_in(node.value) & self.local_code or _holds(node.value, ast.Lambda):
                self.local_code |= {name for target in node.targets for name in _names_in(target)}
            for target in node.targets:
                self._assign(target, value, node)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self._assign(node.target, self._evaluated(node.value), node)
        elif isinstance(node, ast.AugAssign):
            self._augment(node)
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                self._delete(target, node)
        elif isinstance(node, ast.Expr):
            self._evaluated(node.value)
        elif isinstance(node, ast.If):
            self._branch(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            self.local_code.add(node.name)
            self._opaque(node)
        elif isinstance(node, ast.Assert):
            self._mark_changed(node)
        elif not isinstance(node, ast.Pass):
            self._opaque(node)

    def _evaluated(self, node: ast.expr) -> Value:
        """Evaluate an expression, and mark what calls in it that aren't made may change.

        What is evaluated after such a call may depend on it, so then the whole value is unknown. What isn't known may
        also be another name for a container that it mentions, and be changed through that.
        """
        self.expressions.not_evaluated.clear()
        value = self.expressions.evaluate(node)
        mentioned = {name for part in self.expressions.not_evaluated for name in _names_in(part)}
        changed = self._mark_changed(node)
        changed = self._spoil(mentioned, self.expressions.unknown(node, CHANGED)) or changed
        return self.expressions.unknown(node, CHANGED) if changed and not isinstance(value, Unevaluated) else value

    def _assign(self, target: ast.expr, value: Value, node: ast.stmt) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            self.places[target.id] = self.expressions.place(node)
        elif isinstance(target, (ast.Tuple, ast.List)):
            parts = [part.value if isinstance(part, ast.Starred) else part for part in target.elts]
            fits = parts == target.elts and isinstance(value, (list, tuple)) and len(value) == len(parts)
            marker = self.expressions.unknown(node, "unpacks values that aren't known")
            for part, item in zip(parts, value if fits else [marker] * len(parts), strict=True):
                self._assign(part, item, node)
        elif isinstance(target, ast.Subscript):
            self._set_item(target, value, node)
        else:
            self._change_all(node, "sets an attribute")

    def _set_item(self, target: ast.Subscript, value: Value, node: ast.stmt) -> None:
        try:
            container = self.expressions.known(target.value)
            index = self.expressions.index(target.slice)
            if isinstance(container, Section) and not isinstance(index, slice):
                container.put(index, value, self.expressions.place(node))
            elif isinstance(container, list):
                container[index] = value
            else:
                raise NotEvaluatedError("sets an item of what has none")
        except _FAILURES:
            self._opaque(node)

    def _augment(self, node: ast.AugAssign) -> None:
        try:
            if not isinstance(node.target, (ast.Name, ast.Subscript)) or type(node.op) not in BINARY:
                raise NotEvaluatedError("isn't arithmetic")
            old = self.expressions.known(node.target)
            new = self._evaluated(node.value)
            if isinstance(new, Unevaluated):
                raise NotEvaluatedError("isn't known")
            result = binary(node.op, old, new)
            if isinstance(old, list):  # in place, as Python does it: other names for the list see it
                old[:] = result
                result = old
        except _FAILURES:
            self._opaque(node)
            return
        self._assign(node.target, result, node)

    def _delete(self, target: ast.expr, node: ast.stmt) -> None:
        try:
            if isinstance(target, ast.Name):
                del self.names[target.id]
            elif isinstance(target, ast.Subscript):
                container = self.expressions.known(target.value)
                if not isinstance(container, (Section, list)):
                    raise NotEvaluatedError("deletes from what has no items")
                del container[self.expressions.index(target.slice)]
            else:
                raise NotEvaluatedError("deletes an attribute")
        except _FAILURES:
            self._opaque(node)

    def _branch(self, node: ast.If) -> None:
        test = self._evaluated(node.test)
        if isinstance(test, Unevaluated):
            self._opaque(node)
        else:
            self.run(node.body if test else node.orelse)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        marker = self.expressions.unknown(node, "is an import, which isn't made")
        for alias in node.names:
            if alias.name == "*":
                self._change_all(node, "is an import, which isn't made")
            else:
                self.names[alias.asname or alias.name.partition(".")[0]] = marker

    def _opaque(self, node: ast.stmt) -> None:
        """A statement that isn't followed: what it assigns, deletes or hands to a call is unknown from here on."""
        if isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "read_base":
                    raise ConfigError(
                        f"{self.expressions.place(node)}: this is mmengine's Python style, whose bases are imports, "
                        "which aren't made: load it with mmengine and give what `Config.fromfile(…).dump('flat.py')` "
                        "writes."
                    )
        if isinstance(node, (ast.Raise, ast.Global, ast.Nonlocal)):
            self._change_all(node, "isn't followed")
        marker = self.expressions.unknown(node, "isn't followed, since it is code")
        runs_a_body = (hasattr(node, "body") or hasattr(node, "cases")) and not isinstance(node, FUNCTIONS)
        if runs_a_body or isinstance(node, ast.AugAssign) or any(_stores_into(part) for part in ast.walk(node)):
            self._spoil(_names_in(node), marker)
        self._mark_changed(node)
        for part in ast.walk(node):  # last: a name's old container may have been changed before
            if isinstance(part, (*FUNCTIONS, ast.ClassDef)):
                self.names[part.name] = marker
            elif isinstance(part, (ast.Import, ast.ImportFrom)):
                self._import(part)
            elif isinstance(part, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
                if part.name is not None:
                    self.names[part.name] = marker
            elif isinstance(part, ast.MatchMapping):
                if part.rest is not None:
                    self.names[part.rest] = marker
            elif isinstance(part, ast.Name) and isinstance(part.ctx, (ast.Store, ast.Del)):
                self.names[part.id] = marker

    def _mark_changed(self, node: ast.AST) -> bool:
        """Mark what calls within a piece of code may change, where they weren't made; return whether there is any."""
        marker = self.expressions.unknown(node, CHANGED)
        made = self.expressions.made_calls
        calls = [part for part in ast.walk(node) if isinstance(part, ast.Call) and id(part) not in made]
        assigned = [part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
        changed = bool(assigned)
        mentioned = {name for call in calls for name in _names_in(call)}
        if mentioned & (REACHES_ALL | self.local_code) or any(_holds(call.func, ast.Lambda) for call in calls):
            self._change_all(node, CHANGED)
            changed = True
        if assigned or (calls and any(_holds(node, kind) for kind in ALIASING)):
            mentioned = _names_in(node)
        changed = self._spoil(mentioned, marker) or changed
        self.names.update(dict.fromkeys(assigned, marker))
        return changed

    def _change_all(self, node: ast.AST, why: str) -> None:
        marker = self.expressions.unknown(node, why)
        for name in [*self.names, *READ_BY_MMDETECTION]:
            if name != BASE:
                self.names[name] = marker
        base = self.names[BASE]
        base.update(dict.fromkeys(base, marker))

    def _spoil(self, names: set[str], marker: Unevaluated) -> bool:
        """Make every container reachable from some names unknown, wherever else it is held; return whether any is."""
        spoiled = {id(container) for name in names for container in containers_in(self.names.get(name))}
        if not spoiled:
            return False

        def is_spoiled(value: Value) -> bool:
            if isinstance(value, tuple):
                return any(id(container) in spoiled for container in containers_in(value))
            return id(value) in spoiled

        for name, value in list(self.names.items()):
            if is_spoiled(value):
                if name == BASE:
                    value.update(dict.fromkeys(value, marker))
                else:
                    self.names[name] = marker
                continue
            for holder in list(containers_in(value)):
                if isinstance(holder, Section):
                    holder.update({key: marker for key, item in holder.items() if is_spoiled(item)})
                else:
                    holder[:] = [marker if is_spoiled(item) else item for item in holder]
        return True


def _names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _holds(node: ast.AST, kind: type[ast.AST]) -> bool:
    return any(isinstance(part, kind) for part in ast.walk(node))


def _stores_into(node: ast.AST) -> bool:
    return isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, (ast.Store, ast.Del))
