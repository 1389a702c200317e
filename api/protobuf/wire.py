"""The protobuf wire format: bytes to a map of named fields, guided by a table of fields.

A field that a table does not name is an error, not something to drop: what a client sends must not get lost unseen.
Go's encoder writes every field that is not a pointer, zero or not; like its JSON encoder, zero values are left out
here, except where zero means something else than nothing.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 10


class Malformed(ValueError):
    """Bytes that are not the message they should be."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: its JSON name and how its value is read."""

    name: str
    read: Callable[[Any], Any]
    wire_type: int = _BYTES
    is_list: bool = False
    is_map: bool = False
    keeps_zero: bool = False


Fields = Mapping[int, Field]


def text(name: str) -> Field:
    return Field(name, _text)


def texts(name: str) -> Field:
    return Field(name, _text, is_list=True)


def raw(name: str) -> Field:
    return Field(name, bytes)


def number(name: str, *, keeps_zero: bool = False) -> Field:
    return Field(name, _signed, wire_type=_VARINT, keeps_zero=keeps_zero)


def truth(name: str, *, keeps_zero: bool = False) -> Field:
    return Field(name, bool, wire_type=_VARINT, keeps_zero=keeps_zero)


def one(name: str, fields: Fields) -> Field:
    return Field(name, lambda encoded: message(encoded, fields))


def many(name: str, fields: Fields) -> Field:
    return Field(name, lambda encoded: message(encoded, fields), is_list=True)


def text_map(name: str) -> Field:
    return Field(name, lambda encoded: message(encoded, _PAIR), is_map=True)


def time(name: str) -> Field:
    """metav1.Time and MicroTime."""
    return Field(name, _time)


def int_or_text(name: str) -> Field:
    return Field(name, _int_or_text)


def message(encoded: bytes, fields: Fields) -> dict[str, Any]:
    """Read a message; raises Malformed."""
    result: dict[str, Any] = {}
    for number_, wire_type, value in _fields(encoded):
        field = fields.get(number_)
        if field is None:
            raise Malformed(f"field {number_} is not known")
        if field.wire_type != wire_type:
            raise Malformed(f"field {number_} ({field.name}) has wire type {wire_type}, not {field.wire_type}")
        _add(result, field, field.read(value))
    return result


def _add(result: dict[str, Any], field: Field, value: Any) -> None:
    if field.is_map:
        result.setdefault(field.name, {})[value.get("key", "")] = value.get("value", "")
    elif field.is_list:
        result.setdefault(field.name, []).append(value)
    elif value or field.keeps_zero:
        result[field.name] = value


def _fields(encoded: bytes) -> Iterator[tuple[int, int, Any]]:
    at = 0
    while at < len(encoded):
        tag, at = _varint(encoded, at)
        value, at = _value(encoded, at, tag & 7)
        yield tag >> 3, tag & 7, value


def _value(encoded: bytes, at: int, wire_type: int) -> tuple[Any, int]:
    match wire_type:
        case 0:
            return _varint(encoded, at)
        case 1 | 5:
            length = 8 if wire_type == _FIXED64 else 4
        case 2:
            length, at = _varint(encoded, at)
        case _:
            raise Malformed(f"wire type {wire_type} is not known")
    if at + length > len(encoded):
        raise Malformed(f"a field of {length} bytes ends behind the message")
    return encoded[at : at + length], at + length


def _varint(encoded: bytes, at: int) -> tuple[int, int]:
    value = 0
    for offset, byte in enumerate(encoded[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * offset)
        if byte < 0x80:
            return value, at + offset + 1
    raise Malformed("a number does not end")


def _signed(value: int) -> int:
    """Negative numbers travel as 64-bit two's complement."""
    return int(struct.unpack("<q", struct.pack("<Q", value & 0xFFFF_FFFF_FFFF_FFFF))[0])


def _text(encoded: bytes) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"a string is not UTF-8: {error}") from error


def _time(encoded: bytes) -> str:
    moment = message(encoded, _TIME)
    if not moment:
        return ""
    try:
        then = _EPOCH + timedelta(seconds=moment.get("seconds", 0))
    except OverflowError as error:
        raise Malformed(f"a time is out of range: {moment}") from error
    if not (nanos := moment.get("nanos", 0)):
        return then.strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{then:%Y-%m-%dT%H:%M:%S}.{nanos // 1000:06d}Z"


def _int_or_text(encoded: bytes) -> int | str:
    value = message(encoded, _INT_OR_TEXT)
    chosen: int | str = value.get("strVal", "") if value.get("type") else value.get("intVal", 0)
    return chosen


_PAIR: Final[Fields] = {1: text("key"), 2: text("value")}
_TIME: Final[Fields] = {1: number("seconds"), 2: number("nanos")}
_INT_OR_TEXT: Final[Fields] = {1: number("type"), 2: number("intVal"), 3: text("strVal")}
