"""Writing grammars in llguidance's dialect of Lark."""

import itertools
import json
import re
from collections.abc import Sequence

_HALVES = re.compile("[\ud800-\udfff]")  # of characters; no tokenizer takes them


def encodable(text: str) -> str:
    """A text as prompts can show it: with U+FFFD for each half of a surrogate pair."""
    return _HALVES.sub("\ufffd", text)


def literal(text: str) -> str:
    """A text that is to stand as it is; nothing for the empty text.

    Examples:
        >>> print(literal('a "b"'), literal("naïve"))
        "a \\"b\\"" "na\\u00efve"
    """
    return json.dumps(encodable(text)) if text else ""


def either(*options: str) -> str:
    """One of several expressions, without repeated ones; an empty option makes it optional."""
    distinct = [option for option in dict.fromkeys(options) if option]
    chosen = distinct[0] if len(distinct) == len(options) == 1 else f"({' | '.join(distinct)})" if distinct else ""
    return f"{chosen}?" if chosen and "" in options else chosen


def times(expression: str, least: int, most: int) -> str:
    """An expression, so many times; nothing where that is none."""
    return f"({expression}){{{least},{most}}}" if most else ""


class Rules:
    """The rules of one grammar; equal ones are written once.

    Examples:
        >>> rules = Rules()
        >>> rules.rule("tag", '"a"'), rules.rule("tag", '"b"'), rules.rule("tag", '"a"')
        ('tag', 'tag_1', 'tag')
        >>> print(rules.source("tag tag_1"))
        %llguidance {}
        start: tag tag_1
        tag: "a"
        tag_1: "b"
    """

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}  # by name
        self._names: dict[str, str] = {}  # by body
        self._taken = {"start"}

    def rule(self, name: str, body: str) -> str:
        """Add a rule, and return its name."""
        if body not in self._names:
            self._names[body] = self.reserve(name)
            self.define(self._names[body], body)
        return self._names[body]

    def terminal(self, name: str, body: str) -> str:
        """Add a terminal, which is one regular expression for the lexer, and return its name."""
        return self.rule(name.upper(), body)

    def reserve(self, name: str) -> str:
        """A name that no rule has, for a rule that mentions itself; `define` gives its body."""
        free = name
        for number in itertools.count(1):
            if free not in self._taken:
                break
            free = f"{name}_{number}"
        self._taken.add(free)
        return free

    def define(self, name: str, body: str) -> None:
        """Give a reserved name its body."""
        self._bodies[name] = body

    def source(self, start: str) -> str:
        """The grammar of what `start` describes."""
        rules = (f"{name}: {body}" for name, body in self._bodies.items())
        return "\n".join(["%llguidance {}", f"start: {start}", *rules])


_BITS = 63  # of the parameter by which a rule knows what was chosen before


def selection(rules: Rules, options: Sequence[str], most: int, comma: str, end: str) -> str:
    """Some of the options, at least one, each at most once, with a comma between them and an end after them.

    Of more than 63 options each may be chosen again.

    Examples:
        >>> rules = Rules()
        >>> print(rules.source(selection(rules, ['"a"', '"b"'], 2, '","', '"."')))  # doctest: +ELLIPSIS
        %llguidance {}
        start: ("a" more::0x1 | "b" more::0x2)
        more::_: "." | "," "a" more::set_bit(0) %if and(bit_clear(0), bit_count_lt(_, 2)) | "," ...
    """
    if len(options) > _BITS or len(options) == 1:
        return f"{either(*options)} {times(f'{comma} {either(*options)}', 0, min(most, len(options)) - 1)} {end}"
    more = rules.reserve("more")
    others = [
        f"{comma} {option} {more}::set_bit({bit}) %if and(bit_clear({bit}), bit_count_lt(_, {most}))"
        for bit, option in enumerate(options)
    ]
    rules.define(f"{more}::_", " | ".join([end, *others]))
    return either(*(f"{option} {more}::{1 << bit:#x}" for bit, option in enumerate(options)))
