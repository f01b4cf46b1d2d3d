"""Verifiers that lack one check: made from the device's own source, so that a new check is a new mutant by itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from midgehost.resources import firmware_dir

MODULES = ("errors", "crypto", "manifest", "update")  # in the order in which they import each other
_PACKAGE = "_midge_mutant"
_NOT_CHECKS = ("facts",)  # asks the board, decides nothing


@dataclass(frozen=True)
class Mutant:
    """One change. `removes` is set where a whole check is gone: a raise, a refusing return, the call of a check."""

    where: str
    change: str
    removes: bool
    module: str
    tree: ast.Module

    def load(self) -> ModuleType:
        """The module `update` with this change in it, or in what it imports."""
        package = ModuleType(_PACKAGE)
        package.__path__ = []
        sys.modules[_PACKAGE] = package
        for name in MODULES:
            module = ModuleType(f"{_PACKAGE}.{name}")
            module.__package__ = _PACKAGE
            tree = self.tree if name == self.module else _source(name)
            sys.modules[module.__name__] = module
            setattr(package, name, module)
            exec(compile(ast.fix_missing_locations(tree), name, "exec"), module.__dict__)
        return sys.modules[f"{_PACKAGE}.update"]


def mutants() -> Iterator[Mutant]:
    """Every one, in the order of the source."""
    for module in MODULES[1:]:
        count = len(_Changes(module).run())
        for number in range(count):
            changes = _Changes(module, number)
            changes.run()
            yield changes.made()


def _source(module: str) -> ast.Module:
    return ast.parse((firmware_dir() / "midge" / f"{module}.py").read_text())


class _Changes(ast.NodeTransformer):
    """Counts the places that can be changed; changes the one with number `wanted`."""

    def __init__(self, module: str, wanted: int = -1) -> None:
        self.module, self.wanted = module, wanted
        self.found: list[tuple[str, str, bool]] = []
        self.tree = _source(module)
        self._function = ""
        self._guarded = 0  # depth of ifs and exception handlers

    def run(self) -> list[tuple[str, str, bool]]:
        """What can be changed: where, how, and whether a whole check goes."""
        self.visit(self.tree)
        return self.found

    def made(self) -> Mutant:
        """The one that was wanted."""
        return Mutant(*self.found[self.wanted], self.module, self.tree)

    def _offer(self, node: ast.AST, change: str, new: ast.AST, removes: bool = False) -> ast.AST:
        number = len(self.found)
        text = ast.unparse(node).splitlines()[0]
        self.found.append((f"{self.module}.{self._function}: {text}", change, removes))
        return ast.copy_location(new, node) if number == self.wanted else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if node.name in _NOT_CHECKS:
            return node
        self._function = node.name
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        node.test = self.visit(node.test)
        self._guarded += 1
        node.body = [self.visit(statement) for statement in node.body]
        self._guarded -= 1
        node.orelse = [self.visit(statement) for statement in node.orelse]
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self._guarded += 1
        node.body = [self.visit(statement) for statement in node.body]
        self._guarded -= 1
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self._offer(node, "removed", ast.Pass(), True)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if self._guarded and isinstance(node.value, ast.Constant) and node.value.value is False:
            return self._offer(node, "removed", ast.Pass(), True)
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.startswith("_check"):
            return self._offer(node, "removed", ast.Pass(), True)
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return self._always(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "all":
            return self._always(node)
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not):
            changed = self._always(node)
            if changed is not node:
                return changed
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        for number in range(len(node.values)):
            left = [value for i, value in enumerate(node.values) if i != number]
            new = left[0] if len(left) == 1 else ast.BoolOp(node.op, left)
            changed = self._offer(node, f"without `{ast.unparse(node.values[number])}`", new)
            if changed is not node:
                return changed
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        for new in (node.body, node.orelse):
            changed = self._offer(node, f"always `{ast.unparse(new)}`", new)
            if changed is not node:
                return changed
        return self.generic_visit(node)

    def _always(self, node: ast.AST) -> ast.AST:
        for value in (True, False):
            changed = self._offer(node, f"always {value}", ast.Constant(value))
            if changed is not node:
                return changed
        return node
