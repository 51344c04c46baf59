"""How a format writes values: texts, lists, objects and quotes, as expressions of a grammar."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from r2p_dspy.decoding.grammar.lark import Rules, either, encodable, literal, selection, times
from r2p_dspy.decoding.grammar.quotes import Escaping
from r2p_dspy.values.neutral import json_line

# What placeholders of the prompt, JSON, tags, code, tables and headings begin with: small models begin texts so.
FORMAT_MARKS = "{[<`\"'|*#\\"
PROMPT_MARKS = "{["  # as the prompt's own placeholders begin, and an empty list of evidence

_STRETCH = 100  # characters of a long text that the lexer reads at once; a text is so many stretches
_INDENT = 8  # spaces that a line may begin with, at most
_CONTROL = r"\x00-\x1F\x7F"  # llguidance is fast where a class leaves out exactly these
_PLAIN = r'[^"\\\x00-\x1F\x7F]|\\["\\nt]'  # a character of a string in JSON that a model writes


class Member(NamedTuple):
    """A key of an object, and the expression of its value; a member may be left out."""

    key: str
    value: str
    optional: bool = False


@dataclass(frozen=True)
class Notation(ABC):
    """A format's way of writing values.

    Args:
        lines: whether a text stands in lines of its own, and values without structure stand without quotes.
        tags: whether tags mark the stages around the values, so that no text may hold one.
    """

    lines: bool = True
    tags: bool = False

    @property
    @abstractmethod
    def escaping(self) -> Escaping:
        """How quotes are written."""

    @abstractmethod
    def constant(self, value: Any) -> str:
        """One value of JSON inside a list or an object."""

    @abstractmethod
    def boolean(self) -> str:
        """True or false inside a list or an object."""

    @abstractmethod
    def bare(self, text: str) -> str:
        """A text that stands alone in its lines."""

    @abstractmethod
    def string(self, rules: Rules, least: int, most: int, barred: str = "") -> str:
        """A text inside a list or an object, of so many characters, not blank unless it may be empty.

        Its first character is none of those that are `barred`.
        """

    @abstractmethod
    def quoted(self, body: str) -> str:
        """A text inside a list or an object, of which the grammar of what it holds is given."""

    @abstractmethod
    def list(self, element: str, least: int, most: int, level: int = 0) -> str:
        """A list."""

    @abstractmethod
    def distinct(self, rules: Rules, elements: Sequence[str], most: int, level: int = 0) -> str:
        """A list of some of these elements, at least one, each at most once, in any order."""

    @abstractmethod
    def sequence(self, elements: Sequence[str], level: int = 0) -> str:
        """A list of exactly these elements."""

    @abstractmethod
    def object(self, members: Sequence[Member], level: int = 0) -> str:
        """An object."""

    def text(self, rules: Rules, characters: int, barred: str = "") -> str:
        """A text of a stage or an output, in one or more lines, not blank; `barred` as for `string`."""
        first, rest = self._characters(barred)
        begin = rules.terminal("LINE", f"/({first})/")
        more = rules.terminal("TEXT", f"/({rest}){{1,{_STRETCH}}}/")
        indented = rules.terminal("INDENTED", f"/ {{0,{_INDENT}}}({self._characters()[0]})/")
        line = rules.rule("line", f'("\\n" | "\\n\\n") {indented}')
        return rules.rule("text", f"{begin} ({more} | {line}){{0,{max(1, characters // _STRETCH)}}}")

    def short_text(self, rules: Rules, least: int, most: int, barred: str = "") -> str:
        """A text of a stage or an output in one line, of so many characters; `barred` as for `string`."""
        first, rest = self._characters(barred + "[")  # which would be two characters
        return rules.terminal("SHORT", f"/({first})({rest}){{{max(least, 1) - 1},{most - 1}}}/")

    def _characters(self, barred: str = "") -> tuple[str, str]:
        """The first visible character of a line, two of them from `[`, and any other one: no line is like a mark."""
        if self.tags:
            return rf"[^\s<`{re.escape(barred)}{_CONTROL}]", rf"[^<{_CONTROL}]|<[^<A-Za-z\/!?{_CONTROL}]"
        bracket = "" if "[" in barred else rf"|\[[^\[{_CONTROL}]"
        return rf"[^\s\[{re.escape(barred)}{_CONTROL}]{bracket}", rf"[^{_CONTROL}]"


@dataclass(frozen=True)
class Json(Notation):
    """JSON: on one line, or with an indent at each level as DSPy's JSON adapter writes it."""

    indent: bool = False

    @property
    def escaping(self) -> Escaping:
        return _JSON_IN_TAGS if self.tags else _JSON

    def constant(self, value: Any) -> str:
        return literal(json_line(value))

    def boolean(self) -> str:
        return '("true" | "false")'

    def bare(self, text: str) -> str:
        return literal(text if self.lines else json_line(text))

    def string(self, rules: Rules, least: int, most: int, barred: str = "") -> str:
        escaped = "".join(mark for mark in '"\\' if mark not in barred)
        first = rf'[^\s"\\{re.escape(barred)}{_CONTROL}]' + (rf"|\\[{re.escape(escaped)}]" if escaped else "")
        unit = _PLAIN
        if self.tags:
            first, unit = first.replace("^", "^<", 1), unit.replace("^", "^<", 1) + rf'|<[^<A-Za-z\/!?"\\{_CONTROL}]'
        size = f"{{{least - 1},{most - 1}}}" if least else f"{{0,{most}}}"
        return rules.terminal("STRING", f'/"{f"({first})" if least else ""}({unit}){size}"/')

    def quoted(self, body: str) -> str:
        return f'"\\"" ({body}) "\\""'

    def list(self, element: str, least: int, most: int, level: int = 0) -> str:
        if not most:
            return literal("[]")
        rest = times(f"{self._comma(level + 1)} {element}", max(0, least - 1), most - 1)
        entries = f"{literal('[' + self._break(level + 1))} {element} {rest} {literal(self._break(level) + ']')}"
        return entries if least else either(literal("[]"), f"({entries})")

    def distinct(self, rules: Rules, elements: Sequence[str], most: int, level: int = 0) -> str:
        start, end = literal("[" + self._break(level + 1)), literal(self._break(level) + "]")
        return f"{start} {selection(rules, elements, most, self._comma(level + 1), end)}"

    def sequence(self, elements: Sequence[str], level: int = 0) -> str:
        inner = f" {self._comma(level + 1)} ".join(elements)
        return f"{literal('[' + self._break(level + 1))} {inner} {literal(self._break(level) + ']')}"

    def object(self, members: Sequence[Member], level: int = 0) -> str:
        if not members:
            return literal("{}")
        end = literal(self._break(level) + "}")
        start, comma = literal("{" + self._break(level + 1)), self._comma(level + 1)
        written = [f"{literal(json_line(member.key) + ': ')} {member.value}" for member in members]
        if all(member.optional for member in members):  # the first that is there has no comma before it
            tails = [
                " ".join([written[at], *(f"({comma} {each})?" for each in written[at + 1 :])])
                for at in range(len(written))
            ]
            return f"{either(literal('{}'), f'({start} {either(*tails)} {end})')}"
        parts, begun = [], False
        for member, text in zip(members, written):
            if not begun:
                parts.append(f"({text} {comma})?" if member.optional else text)
                begun = not member.optional
            else:
                parts.append(f"({comma} {text})?" if member.optional else f"{comma} {text}")
        return " ".join([start, *parts, end])

    def dictionary(self, key: str, value: str, most: int, level: int = 0) -> str:
        """An object of any keys."""
        entry = f'{key} ": " {value}'
        rest = times(f"{self._comma(level + 1)} {entry}", 0, most - 1)
        body = f"{literal('{' + self._break(level + 1))} {entry} {rest} {literal(self._break(level) + '}')}"
        return either(literal("{}"), f"({body})")

    def _break(self, level: int) -> str:
        return "\n" + "  " * level if self.indent else ""

    def _comma(self, level: int) -> str:
        return literal("," + self._break(level)) if self.indent else literal(", ")


@dataclass(frozen=True)
class Xml(Notation):
    """XML as DSPy's XML adapter writes it: lists in elements called `item`, keys as elements."""

    @property
    def escaping(self) -> Escaping:
        return _XML

    def constant(self, value: Any) -> str:
        return literal("" if value is None else _escape_xml(value if isinstance(value, str) else json.dumps(value)))

    def boolean(self) -> str:
        return '("True" | "False" | "true" | "false")'  # as DSPy shows it, and as models know it

    def bare(self, text: str) -> str:
        return literal(_escape_xml(text))

    def string(self, rules: Rules, least: int, most: int, barred: str = "") -> str:
        if not least:
            return rules.terminal("STRING", f"/({_XML_CHARACTER}){{0,{most}}}/")
        first, _ = self._characters(barred)
        return rules.terminal("STRING", f"/({first})({_XML_CHARACTER}){{{least - 1},{most - 1}}}/")

    def quoted(self, body: str) -> str:
        return f"({body})"

    def list(self, element: str, least: int, most: int, level: int = 0) -> str:
        return times(f'"<item>" {element} "</item>"', least, most)

    def distinct(self, rules: Rules, elements: Sequence[str], most: int, level: int = 0) -> str:
        return selection(rules, [f'"<item>" {element} "</item>"' for element in elements], most, "", '""')

    def sequence(self, elements: Sequence[str], level: int = 0) -> str:
        return " ".join(f'"<item>" {element} "</item>"' for element in elements)

    def object(self, members: Sequence[Member], level: int = 0) -> str:
        parts = []
        for key, value, optional in members:
            element = f"{literal(f'<{key}>')} {value} {literal(f'</{key}>')}"
            parts.append(f"({element})?" if optional else element)
        return " ".join(parts)

    def _characters(self, barred: str = "") -> tuple[str, str]:
        escaped = "amp|gt" if "<" in barred else "amp|lt|gt"
        return rf"[^\s<>&{re.escape(barred)}{_CONTROL}]|&({escaped});", _XML_CHARACTER


def _escape_json(text: str) -> str:
    return json_line(encodable(text))[1:-1]


def _escape_xml(text: str) -> str:
    return encodable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_JSON_SPACE = r"\s|\\[nrtf]"
_JSON_WORD = r'[^\s\\"]|\\["\\b]|\\u[0-9a-f]{4}'
_JSON = Escaping(_escape_json, None, _JSON_SPACE, _JSON_WORD)
_JSON_IN_TAGS = Escaping(_escape_json, re.compile(r"<(?=[A-Za-z/!?])"), _JSON_SPACE, _JSON_WORD)
# A `>` as itself could end what XML calls a CDATA section.
_XML_CHARACTER = rf"[^<>&{_CONTROL}]|&(amp|lt|gt);"
_XML = Escaping(
    _escape_xml,
    re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]"),
    r"\s",
    r"[^\s<>&]|&(amp|lt|gt);",
)
