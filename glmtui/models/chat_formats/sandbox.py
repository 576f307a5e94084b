"""Chat templates are programs that come with a model's files: they run in a sandbox, and only so far.

Jinja's sandbox keeps a template from everything but text, lists and numbers. What it lets through is time and
memory: three nested ``range(99999)``, ``'x' * 10**10``, a text doubled in a loop. So every step and every
text or list that a template makes is counted here against a `Budget`, operations whose result can be much
larger than what goes in are computed only where that is known to be small, and filters that could make
anything large are not there. The environment is otherwise transformers', for which templates are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

LONGEST_TEMPLATE = 1 << 16
"""Characters; GLM-4.5's has 4,700. Longer ones take long to compile."""
STEP = 16
"""What a step of a loop, a call or an operation costs; a character of a text or an item of a list costs 1."""
BUDGET = 1 << 20
"""What a template has in any case: some tenths of a second."""
BUDGET_PER_CHARACTER, BUDGET_PER_VALUE = 16, 512
"""What it has for each character and each text of the conversation on top."""
_MOST_BITS = 4096
"""Of a number."""
_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float"),
    *("forceescape", "groupby", "int", "items", "last", "length", "list", "lower", "map", "max", "min"),
    *("reject", "rejectattr", "reverse", "safe", "select", "selectattr", "sort", "string", "striptags"),
    *("title", "trim", "unique", "upper", "urlencode", "wordcount"),
)
"""Those of Jinja's filters whose result is about as long as what they are given."""
_METHODS = frozenset(
    (
        *("capitalize", "casefold", "count", "endswith", "find", "get", "index", "isalnum", "isalpha"),
        *("isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "items", "keys"),
        *("lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind", "rindex", "rpartition"),
        *("rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper"),
        *("values", "copy"),
    )
)
"""Those of texts, lists and tables, likewise; `join` and `replace` are this module's."""


class Budget:
    """What one run of a template may still do."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, count: int) -> None:
        """Take `count` off. Raises SecurityError when there is no more."""
        self.left -= count
        if self.left < 0:
            raise SecurityError("it goes on too long, or makes too much")


_Value = TypeVar("_Value")
_budget: ContextVar[Budget] = ContextVar("budget")


def render(source: str, conversation: Mapping[str, Any]) -> str:
    """Return what the template `source` makes of `conversation`, the variables it gets.

    Raises:
        TemplateError: it is no template, does not take the conversation, or wants to do too much.
    """
    token = _budget.set(Budget(BUDGET + _share(conversation)))
    try:
        return _compiled(source).render(conversation)
    except TemplateError:
        raise
    except Exception as error:  # a program of somebody else's can raise anything
        raise TemplateError(str(error) or type(error).__name__) from error
    finally:
        _budget.reset(token)


def _share(value: Any) -> int:
    if isinstance(value, str):
        return BUDGET_PER_VALUE + BUDGET_PER_CHARACTER * len(value)
    if isinstance(value, Mapping):
        value = value.values()
    return sum(map(_share, value)) if isinstance(value, Iterable) else 0


@lru_cache(8)
def _compiled(source: str) -> Template:
    if len(source) > LONGEST_TEMPLATE:
        raise TemplateError("it is too long")
    return _Environment().from_string(source)


def _made(value: _Value) -> _Value:
    """Count what was made, and return it."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise SecurityError("a number gets too large")
    _budget.get().spend(STEP + (len(value) if isinstance(value, Sized) else 0))
    return value


def _join(value: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
    """Jinja's filter ``join``, and a text's method."""
    parts = [str(each if attribute is None else each[attribute]) for each in value]
    _budget.get().spend(sum(map(len, parts)) + len(str(d)) * len(parts) + STEP)
    return str(d).join(parts)


def _replace(value: Any, old: Any, new: Any, count: Any = None) -> str:
    """Jinja's filter ``replace``, and a text's method."""
    text, old, new = str(value), str(old), str(new)
    found: int = text.count(old) if count is None or count < 0 else min(text.count(old), count)
    _budget.get().spend(len(text) + found * len(new) + STEP)
    return text.replace(old, new, found)


def _to_json(value: Any, ensure_ascii: bool = False, indent: Any = None, **options: Any) -> str:
    """Filter ``tojson`` as transformers has it: without HTML's escapes."""
    if indent is not None and len(str(indent)) > 2:
        raise SecurityError("it indents too far")
    return _made(json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options))


def _indent(text: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    """Jinja's filter ``indent``."""
    if len(str(width)) > (20 if isinstance(width, str) else 2):
        raise SecurityError("it indents too far")
    by = width if isinstance(width, str) else " " * width
    lines = str(text).splitlines() or [""]
    rest = [by + line if line or blank else line for line in lines[1:]]
    return _made("\n".join([by + lines[0] if first else lines[0], *rest]))


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > 100:
        raise SecurityError("a date is too long")
    return datetime.now().astimezone().strftime(form)


class _Namespace(Namespace):
    """Jinja's, without the names by which Python tells of itself."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"{name} cannot be set")
        super().__setitem__(name, value)


class _Generation(Extension):
    """The block ``generation``, by which those who train tell answers from the rest; here it only stands."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Counting(NodeTransformer):
    """Puts a step at the beginning of every loop, macro and call, and counts what expressions make."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 (Jinja calls it)
        return self._stepping(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._stepping(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._stepping(node)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if node.node is None else self._call("made", node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._call("join", nodes.List(node.nodes))

    def _stepping(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(self._call("made", nodes.Const(0))))
        return node

    @staticmethod
    def _call(name: str, argument: nodes.Expr) -> nodes.Call:
        function = nodes.ImportedName(f"{__name__}._{name}")
        return nodes.Call(function, [argument], [], None, None)


class _Environment(ImmutableSandboxedEnvironment):
    """Transformers' environment for chat templates, with a budget."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))
    concat = staticmethod(_join)  # of what a block, a macro or all of it wrote

    def __init__(self) -> None:
        # Without the optimiser, which would compute constants before anything is counted.
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[_Generation, loopcontrols]
        )
        self.filters = {name: self.filters[name] for name in _FILTERS}
        self.filters |= {"join": _join, "replace": _replace, "tojson": _to_json, "indent": _indent}
        self.globals = {
            "range": self.globals["range"],
            "dict": dict,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _generate(self, source: nodes.Template, *more: Any, **options: Any) -> str:
        counted: nodes.Template = _Counting().visit(source)
        for node in counted.find_all(nodes.Node):
            node.set_environment(self)
        counted.set_lineno(1)
        return super()._generate(counted, *more, **options)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute ``left operator right`` where the result can be no larger than the budget."""
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, Sequence) and isinstance(other, int):
                    _budget.get().spend(len(one) * max(other, 0))
        elif operator == "**" and not (abs(left) <= 1 << 64 and abs(right) <= 64):
            raise SecurityError("a number gets too large")
        elif operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("texts are not formatted with %")
        return _made(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Any:
        """Refuse a text's method ``format``, which fills up to any width; others are none of this one's."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("format is not there for templates")

    def call(self, context: Context, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `function`; of the methods of texts, lists and tables those that make nothing large."""
        owner = getattr(function, "__self__", None)
        name = getattr(function, "__name__", "")
        if isinstance(owner, str) and name in ("join", "replace"):
            return _join(args[0], owner) if name == "join" else _replace(owner, *args, **kwargs)
        if isinstance(owner, str | bytes | list | tuple | dict | int | float) and name not in _METHODS:
            raise SecurityError(f"{name} is not there for templates")
        return _made(super().call(context, function, *args, **kwargs))
