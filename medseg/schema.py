"""JSON written by others, as frozen dataclasses: a closed schema, and no code."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NoReturn

from medseg.errors import ConfigError, ModelError

MAX_INTEGER = 2**53
MAX_TEXT = 8192
Refuse = Callable[[str], NoReturn]
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def strict_json(data: bytes, subject: object, *, limit: int, depth: int) -> Any:
    """Return the JSON value in ``data``, refusing whatever is ambiguous or hostile.

    Args:
        data: UTF-8.
        subject: What the error is about, a path.
        limit: Largest number of bytes.
        depth: Deepest nesting, counted before anything is parsed.

    Raises:
        ModelError: If ``data`` is too long, too deep, no JSON, repeats a key, or
            holds NaN, Infinity or an integer of 2^53 or more.
    """

    def refuse(problem: str) -> NoReturn:
        raise ModelError(subject, problem, "Get the model again from its source")

    if len(data) > limit:
        refuse(f"has {len(data)} bytes of JSON, at most {limit} are allowed")
    found = _depth(data)
    if found > depth:
        refuse(f"nests {found} levels deep, at most {depth} are allowed")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=lambda pairs: _table(pairs, refuse),
            parse_int=lambda text: _integer(text, refuse),
            parse_float=lambda text: _number(text, refuse),
            parse_constant=lambda word: refuse(f"holds {word}, which is not finite"),
        )
    except UnicodeDecodeError as error:
        raise ModelError(subject, f"is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        problem = f"is not JSON ({error.msg}, line {error.lineno})"
        raise ModelError(subject, problem) from error


def _integer(text: str, refuse: Refuse) -> int:
    # The length is looked at first: a long integer is slow to convert.
    if len(text) > 17 or abs(int(text)) >= MAX_INTEGER:
        refuse(f"holds an integer of {len(text)} digits, at most 2^53 is allowed")
    return int(text)


def _number(text: str, refuse: Refuse) -> float:
    if not math.isfinite(float(text)):
        refuse(f"holds the number {text[:20]}, which is not finite")
    return float(text)


def _table(pairs: list[tuple[str, Any]], refuse: Refuse) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        refuse(f"has the duplicate key {twice!r}")
    return table


def _depth(data: bytes) -> int:
    depth = deepest = 0
    for bracket in re.findall(rb"[\[{\]}]", _STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the remedy for an unknown ``name``: the near one, or the whole list."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(known)}"


def parse(kind: Any, value: Any, where: str) -> Any:
    """Return a JSON ``value`` as ``kind``.

    ``kind`` is a dataclass, ``tuple[X, ...]``, a ``Literal``, ``X | None``, a
    ``Mapping`` (left as it is) or a scalar.

    Raises:
        ConfigError: If a key is unknown (suggests the near one) or missing, or a
            value has the wrong type; names the field.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _parse_table(typing.cast("type", kind), value, where)
    if origin in (typing.Union, types.UnionType):
        return parse(inner[0], value, where)
    if origin is tuple:
        _expect(isinstance(value, list), where, value, "a list")
        return tuple(parse(inner[0], x, f"{where}[{i}]") for i, x in enumerate(value))
    if origin is Literal:
        known = type(value) in (str, int) and value in inner
        _expect(known, where, value, f"one of {', '.join(map(str, inner))}")
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _expect(isinstance(value, dict), where, value, "a table")
        return value
    return _parse_scalar(kind, value, where)


def _parse_table(kind: type, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where or "the file", value, "a table")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in fields:
            raise ConfigError(prefix + key, "is an unknown key", suggest(key, fields))
    for name, field in fields.items():
        optional = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if name not in value and not optional:
            raise ConfigError(prefix + name, "is missing", "Add it")
    hints = typing.get_type_hints(kind)
    return kind(**{k: parse(hints[k], v, prefix + k) for k, v in value.items()})


def _parse_scalar(kind: Any, value: Any, where: str) -> Any:
    # bool is an int in Python; JSON keeps them apart and so do we.
    accepted = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}[kind]
    right = type(value) in accepted
    names = {float: "a number", int: "an integer", str: "text", bool: "true or false"}
    _expect(right, where, value, names[kind])
    if kind is str and len(value) > MAX_TEXT:
        raise ConfigError(where, f"has {len(value)} characters, at most {MAX_TEXT}")
    return kind(value)


def _expect(condition: bool, where: str, value: Any, wanted: str) -> None:
    if not condition:
        raise ConfigError(where, f"is {str(value)[:40]!r}", f"Give {wanted}")


def to_plain(value: Any) -> Any:
    """Return a dataclass as what JSON can hold; fields that are None are left out."""
    if dataclasses.is_dataclass(value):
        pairs = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        return {key: to_plain(item) for key, item in pairs if item is not None}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value
