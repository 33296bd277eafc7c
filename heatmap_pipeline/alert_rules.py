"""Rules for alerts as people write them in a TOML file: what each means, what it refuses, and the words for that.

What belongs here: reading the file that HEATMAP_ALERTS names. What does not: when a rule fires (`model/alerts.py`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from heatmap_pipeline.errors import HeatmapError, listed, printable
from heatmap_pipeline.symbols import market_id, why_no_symbol

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AlertRulesError(HeatmapError):
    """A file of rules that cannot be used; names the rule, what is wrong with it, and what is allowed."""


class _Rule(BaseModel):
    """What all rules have: `symbols` none = every symbol, `model` none = the first one that is computed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=80)]
    symbols: tuple[str, ...] = ()
    model: str | None = None

    @field_validator("symbols", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("name")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isprintable() or not value.strip():
            raise ValueError("write it in one line of printable letters")
        return value

    @field_validator("symbols")
    @classmethod
    def _symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        ids = tuple(map(market_id, value))
        for symbol in ids:
            if words := why_no_symbol(symbol):
                raise ValueError(words)
        return ids

    def is_for(self, symbol: str) -> bool:
        """Whether it watches a symbol."""
        return not self.symbols or symbol in self.symbols


class NearRule(_Rule):
    """Price comes within `within_percent` of a zone that holds at least `volume` (quote asset)."""

    when: Literal["near"]
    within_percent: Annotated[float, Field(gt=0, le=50)]
    volume: Positive


class ZoneRule(_Rule):
    """A zone of at least `volume` (quote asset) within a distance appears, or is consumed: price reaches its peak."""

    when: Literal["zone"]
    volume: Positive
    within_percent: Annotated[float, Field(gt=0, le=1000)] = 10.0
    events: tuple[Literal["appears", "consumed"], ...] = ("appears", "consumed")

    @field_validator("events", mode="before")
    @classmethod
    def _events(cls, value: Any) -> Any:
        if isinstance(value, list) and not value:
            raise ValueError("name at least one of appears, consumed")
        return tuple(value) if isinstance(value, list) else value


class CascadeRule(_Rule):
    """More than `times` what is usual in that hour of the day is liquidated on one side."""

    when: Literal["cascade"]
    times: Annotated[float, Field(gt=1, allow_inf_nan=False)]


Rule: TypeAlias = NearRule | ZoneRule | CascadeRule

_KINDS: Mapping[str, type[_Rule]] = {get_args(kind.model_fields["when"].annotation)[0]: kind for kind in get_args(Rule)}
_RULE: TypeAdapter[Rule] = TypeAdapter(Annotated[Rule, Field(discriminator="when")])


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read a file of rules: tables `[[alert]]`, each with a name of its own (docs/alerts.md).

    Raises:
        AlertRulesError: for a file that cannot be read or used, naming the rule and what is allowed; who shows it to
            people names the file.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AlertRulesError(f"the file cannot be read ({error.strerror}); correct the path") from None
    except UnicodeDecodeError:
        raise AlertRulesError("the file is no text in UTF-8; save it as that") from None
    except tomllib.TOMLDecodeError as error:
        raise AlertRulesError(f"the file is no TOML: {printable(str(error))}; correct it there") from None
    tables = content.get("alert")
    unknown = [key for key in content if key != "alert"]
    if unknown or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        what = f"{printable(unknown[0], 40)!r} is not known here" if unknown else "no rule is in it"
        raise AlertRulesError(f"{what}; write each rule as a table [[alert]]")
    rules = tuple(_rule(number, table) for number, table in enumerate(tables, 1))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise AlertRulesError(f"two rules are called {name!r}; give each a name of its own")
    return rules


def _rule(number: int, table: Mapping[str, Any]) -> Rule:
    named = printable(str(table["name"]), 80) if "name" in table else str(number)
    try:
        return _RULE.validate_python(table)
    except ValidationError as error:
        words = _words(error.errors(), table)
    raise AlertRulesError(f"rule {named!r}: {words}")


def _words(errors: Sequence[Any], table: Mapping[str, Any]) -> str:
    first = errors[0]
    kinds = listed(list(_KINDS), "or")
    if first["type"].startswith("union_tag"):
        what_is = f"when = {printable(repr(table['when']), 60)}" if "when" in table else "when is missing"
        return f"{what_is}; it is {kinds}"
    # The place begins with the kind of the rule.
    key = ".".join(str(part) for part in first["loc"][1:2])
    if first["type"] == "missing":
        return f"{key} is missing; a rule with when = {table['when']!r} needs it"
    if first["type"] == "extra_forbidden":
        known = [name for name in _KINDS[table["when"]].model_fields if name != "when"]
        near = get_close_matches(key, known, 1)
        return f"{printable(key, 60)} is not known; {f'do you mean {near[0]}?' if near else f'it has {listed(known)}'}"
    return f"{key} = {printable(_written(table.get(key)), 100)}: {_legal(first)}"


_NUMBER = "a number, written without quotes or units, such as 5_000_000"
_LEGAL = {
    "greater_than": "a number above {gt:g}",
    "less_than_equal": "a number up to {le:g}",
    "finite_number": _NUMBER,
    "float_type": _NUMBER,
    "tuple_type": 'a list, such as ["a", "b"]',
    "string_type": 'a text, in quotes, such as "a"',
    "string_too_short": "a text of 1 letter at least",
    "string_too_long": "a text of {max_length} letters at most",
    "literal_error": "{expected}",
}
"""What a value may be, by what pydantic calls the error; its own words are for programmers."""


def _legal(error: Any) -> str:
    words = _LEGAL.get(error["type"])
    if words is None:  # ours, of a validator
        return str(error["msg"]).removeprefix("Value error, ")
    return f"it is {words.format(**error.get('ctx', {})).replace(chr(39), '')}"


def _written(value: Any) -> str:
    """Return a value as TOML writes it, where Python would write it otherwise."""
    return str(value).lower() if isinstance(value, bool) else repr(value)
