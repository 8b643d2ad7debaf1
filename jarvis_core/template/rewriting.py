"""Templates rewritten so that they pay for what they do, see ``jarvis_core.template.meter``.

A template of Jinja's is a tree. Operators, methods, filters and what is printed are replaced by the
operations of a meter; loops, macros and long branches pay for the steps in them. What is not known
here is replaced too, by what leaves the rendering to the process where it is met. So names that are
called are the template's macros or one of four functions, and there is nothing else to call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from jarvis_core.template.meter import LARGEST, STEP, GiveUpError

NODES_LIMIT = 3_000
"""Nodes of a template; those of publishers have up to 1,300."""
TESTS = (
    "boolean",
    "defined",
    "false",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "sequence",
    "string",
    "true",
    "undefined",
)
"""What values may be tested for."""
FUNCTIONS = ("namespace", "raise_exception", "range", "strftime_now")
"""What may be called beside macros."""
DICT_NAMES = frozenset(dir(dict))
"""Names under which Jinja finds methods of a dict before its items."""

_DEEPEST = 40  # nodes in one another
_SHORT = 64  # characters that are compared as one step
_CALL = 30  # steps of making a function, and of calling it
_TURN = 4  # steps of a turn of a loop
_LONG = 32 * STEP  # price of a branch that pays for itself
_PLAIN = (
    nodes.And,
    nodes.Assign,
    nodes.AssignBlock,
    nodes.Break,
    nodes.CondExpr,
    nodes.Continue,
    nodes.If,
    nodes.Keyword,
    nodes.List,
    nodes.Macro,
    nodes.NSRef,
    nodes.Neg,
    nodes.Not,
    nodes.Operand,
    nodes.Or,
    nodes.Pair,
    nodes.Pos,
    nodes.Scope,
    nodes.Slice,
    nodes.Template,
    nodes.TemplateData,
    nodes.Tuple,
)
_GIVE_TEXT = frozenset(
    {"join", "lower", "replace", "string", "tojson", "trim", "upper", "(~)", ".join"}
    | {".lower", ".lstrip", ".replace", ".rstrip", ".strip", ".upper"}
)


def rewrite(
    tree: nodes.Template, *, operations: Collection[str], names: Collection[str]
) -> nodes.Template:
    """The tree of a template that pays.

    Args:
        tree: As Jinja parsed it; it is changed.
        operations: The names of what a meter does.
        names: What all templates know, which none may call another thing.

    Raises:
        GiveUpError: It is too large, or holds a statement that is not known here.
    """
    _check_size(tree)
    rewritten: nodes.Template = _Rewriter(tree, operations, names).visit(tree)
    rewritten.body.insert(0, _payment(_price(rewritten.body)))
    return rewritten


def _check_size(tree: nodes.Template) -> None:
    level: list[nodes.Node] = [tree]
    size = depth = 0
    while level:
        size, depth = size + len(level), depth + 1
        if size > NODES_LIMIT or depth > _DEEPEST:
            raise GiveUpError
        level = [child for node in level for child in node.iter_child_nodes()]


class _Rewriter(NodeTransformer):
    """Replaces what a template computes and prints by operations of a meter."""

    def __init__(
        self, tree: nodes.Template, operations: Collection[str], names: Collection[str]
    ) -> None:
        macros = {macro.name for macro in tree.find_all(nodes.Macro)}
        self._callable = {*macros, *FUNCTIONS}
        self._taken = {*self._callable, *names}
        self._operations = operations
        self._rules: dict[type, Callable[[Any], nodes.Node]] = dict.fromkeys(_PLAIN, self._inside)
        self._rules |= {
            nodes.For: self._for,
            nodes.Output: self._output,
            nodes.AssignBlock: self._assign_block,
            nodes.Const: self._const,
            nodes.Name: self._name,
            nodes.Getattr: self._attribute,
            nodes.Getitem: self._item,
            nodes.Dict: self._dict,
            nodes.Call: self._call,
            nodes.Filter: self._filter,
            nodes.Test: self._test,
            nodes.Add: self._sum,
            nodes.Concat: self._concatenation,
            nodes.Compare: self._comparison,
            nodes.Sub: self._arithmetic,
            nodes.Mul: self._arithmetic,
            nodes.Div: self._arithmetic,
            nodes.FloorDiv: self._arithmetic,
            nodes.Mod: self._arithmetic,
        }

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """What a node is replaced by; a value that is not to be had ends a rendering there."""
        try:
            return super().visit(node)
        except GiveUpError:
            if isinstance(node, nodes.Expr) and getattr(node, "ctx", "load") == "load":
                return _operation(nodes.Const(None), "(leave)")
            raise

    def get_visitor(self, node: nodes.Node) -> Any:
        """The rule for a node; one that is not known is not let in."""
        return self._rules.get(type(node), _refuse)

    def _inside(self, node: nodes.Node) -> nodes.Node:
        return self.generic_visit(node)

    def _operation(self, name: str, node: nodes.Expr, *others: nodes.Expr) -> nodes.Expr:
        return _operation(self.visit(node), name, *map(self.visit, others))

    # -- statements

    def _for(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            raise GiveUpError
        if isinstance(node.iter, nodes.Filter) and node.iter.name == "items":
            node.iter.name = "(items)"
        return self._inside(node)

    def _output(self, node: nodes.Output) -> nodes.Node:
        self._inside(node)
        node.nodes = [
            value if _is_text(value) else _operation(value, "(print)") for value in node.nodes
        ]
        return node

    def _assign_block(self, node: nodes.AssignBlock) -> nodes.Node:
        if node.filter is not None:
            raise GiveUpError
        return self._inside(node)

    # -- values

    def _const(self, node: nodes.Const) -> nodes.Node:
        if isinstance(node.value, int) and node.value >= LARGEST:
            raise GiveUpError
        return node

    def _name(self, node: nodes.Name) -> nodes.Node:
        if node.name in self._taken:
            raise GiveUpError
        return node

    def _attribute(self, node: nodes.Getattr) -> nodes.Node:
        if node.attr.startswith("_"):
            raise GiveUpError
        return self._inside(node)

    def _item(self, node: nodes.Getitem) -> nodes.Node:
        self._inside(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _operation(node.node, "(slice)")
        return node

    def _dict(self, node: nodes.Dict) -> nodes.Node:
        if not all(isinstance(pair.key, nodes.Const) for pair in node.items):
            raise GiveUpError
        return self._inside(node)

    def _call(self, node: nodes.Call) -> nodes.Node:
        called = node.node
        if node.dyn_args or node.dyn_kwargs:
            raise GiveUpError
        if isinstance(called, nodes.Getattr):
            name = f".{called.attr}"
            if name not in self._operations or node.kwargs:
                raise GiveUpError
            return self._operation(name, called.node, *node.args)
        if not isinstance(called, nodes.Name) or called.name not in self._callable:
            raise GiveUpError
        if called.name == "namespace" and node.args:
            raise GiveUpError
        if called.name == "strftime_now" and (node.kwargs or not all(map(_is_short, node.args))):
            raise GiveUpError
        node.args = [self.visit(value) for value in node.args]
        node.kwargs = [self.visit(value) for value in node.kwargs]
        return node

    def _filter(self, node: nodes.Filter) -> nodes.Node:
        if node.name not in self._operations or node.dyn_args or node.dyn_kwargs:
            raise GiveUpError
        if node.name == "list" and (chosen := _selection(node.node)):
            return self._operation("(select)", *chosen)
        return self._inside(node)

    def _test(self, node: nodes.Test) -> nodes.Node:
        if node.name not in TESTS or node.args or node.kwargs:
            raise GiveUpError
        of_name = node.name in ("defined", "undefined") and isinstance(node.node, nodes.Name)
        return node if of_name else self._inside(node)

    # -- operators

    def _sum(self, node: nodes.Add) -> nodes.Node:
        parts: list[nodes.Expr] = [node]
        while isinstance(parts[0], nodes.Add):
            parts[:1] = [parts[0].left, parts[0].right]
        return self._operation("(+)", *parts)

    def _concatenation(self, node: nodes.Concat) -> nodes.Node:
        return self._operation("(~)", *node.nodes)

    def _arithmetic(self, node: nodes.BinExpr) -> nodes.Node:
        return self._operation("(number)", node.left, nodes.Const(node.operator), node.right)

    def _comparison(self, node: nodes.Compare) -> nodes.Node:
        first = node.ops[0]
        compared = [node.expr, *(other.expr for other in node.ops)]
        if len(node.ops) == 1 and first.op in ("in", "notin"):
            if _is_short(first.expr):
                return self._inside(node)
            found = self._operation("(in)", first.expr, node.expr)
            return found if first.op == "in" else nodes.Not(found)
        if any(other.op in ("in", "notin") for other in node.ops):
            raise GiveUpError
        self._inside(node)
        if len(node.ops) > 1 or not any(map(_is_short, compared)):
            node.expr = _operation(node.expr, "(compare)")
            for other in node.ops:
                other.expr = _operation(other.expr, "(compare)")
        return node


def _refuse(_: nodes.Node) -> nodes.Node:
    raise GiveUpError


def _operation(node: nodes.Node, name: str, *others: nodes.Expr) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, list(others), [], None, None)


def _payment(price: int) -> nodes.ExprStmt:
    return nodes.ExprStmt(_operation(nodes.Const(price), "(pay)"))


def _selection(node: nodes.Node | None) -> list[nodes.Expr]:
    """What chooses of ``objects | selectattr("name", "equalto", "value")``, or the opposite."""
    if not isinstance(node, nodes.Filter) or node.name not in ("selectattr", "rejectattr"):
        return []
    texts = [value.value for value in node.args if isinstance(value, nodes.Const)]
    if len(texts) != 3 or len(node.args) != 3 or node.node is None:
        return []
    if node.kwargs or node.dyn_args or node.dyn_kwargs:
        return []
    if texts[1] != "equalto" or not str(texts[0]).isidentifier() or texts[0] in DICT_NAMES:
        return []
    return [node.node, node.args[0], node.args[2], nodes.Const(node.name == "selectattr")]


def _is_short(node: nodes.Expr) -> bool:
    """Whether to compare with it is one step, whatever is compared."""
    if isinstance(node, (nodes.List, nodes.Tuple)):
        consts = [item for item in node.items if isinstance(item, nodes.Const)]
        return len(consts) == len(node.items) <= _SHORT and all(map(_is_short, consts))
    return isinstance(node, nodes.Const) and len(str(node.value)) <= _SHORT


def _is_text(node: nodes.Expr) -> bool:
    """Whether it gives a text, or is one that costs nothing."""
    if isinstance(node, nodes.CondExpr):
        return _is_text(node.expr1) and node.expr2 is not None and _is_text(node.expr2)
    if not isinstance(node, nodes.Filter):
        return isinstance(node, (nodes.Const, nodes.TemplateData))
    if node.name == "(+)":
        parts = (node.node, *node.args)
        return any(isinstance(part, nodes.Const) and isinstance(part.value, str) for part in parts)
    return node.name in _GIVE_TEXT


# -- prices ------------------------------------------------------------------------------------


def _price(body: Sequence[nodes.Node]) -> int:
    """What it costs to run statements once; loops, macros and long branches pay for themselves."""
    price = 0
    for statement in body:
        if isinstance(statement, nodes.For):
            turn = _TURN * STEP + _price(statement.body) + _cost(statement.test)
            statement.iter = _operation(statement.iter, "(for)", nodes.Const(turn))
            price += _cost(statement.iter) + _price(statement.else_)
        elif isinstance(statement, nodes.If):
            price += _cost(statement.test) + _branch(statement.body)
            price += _price(statement.elif_) + _branch(statement.else_)
        elif isinstance(statement, nodes.Macro):
            called = _price(statement.body) + sum(map(_cost, statement.defaults))
            statement.body.insert(0, _payment(STEP + called))
            price += _CALL * STEP
        elif isinstance(statement, (nodes.AssignBlock, nodes.Scope)):
            price += STEP + _price(statement.body)
        else:
            price += _cost(statement)
    return price


def _branch(body: list[nodes.Node]) -> int:
    price = _price(body)
    if price <= _LONG:
        return price
    body.insert(0, _payment(price))
    return STEP


def _cost(node: nodes.Node | None) -> int:
    """What it costs to compute everything in a node."""
    if node is None:
        return 0
    inside = [node, *node.find_all(nodes.Node)]
    return STEP * (len(inside) + _CALL * sum(isinstance(other, nodes.Call) for other in inside))
