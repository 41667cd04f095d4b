"""YAML as text: a value put in or taken out, every other character where it was, comments and quoting included.

PyYAML says where each value stands; what is written is read again, and must differ from what was there by that value
alone. So what the splicing cannot do (a value shared by anchor, for one) is an error, never a wrong file.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import yaml

from lrfinder.errors import InputError

__all__ = ["Place", "append", "dotted", "drop", "found", "loaded", "put"]

Place = Sequence[str | int]
"""Keys of mappings and indices of sequences that lead from the top of a document to a value."""


def loaded(text: str, name: str) -> Any:
    """Return the data of a document, by the safe loader.

    Raises:
        InputError: it is not YAML, or holds more than data; the text begins with ``name``.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{name} must be YAML that holds data only, got {problem}{where}") from None
    except (RecursionError, ValueError) as error:  # nested without end; a date that is none
        raise InputError(f"{name} must be YAML that can be read, got {str(error)[:80] or 'a bad value'}") from None


def found(data: Any, place: Place) -> Any:
    """Return what is at a place, None where nothing is."""
    for key in place:
        held = data if isinstance(data, dict) else dict(enumerate(data)) if isinstance(data, list) else {}
        if key not in held:
            return None
        data = held[key]
    return data


def put(text: str, place: Place, value: Any) -> str:
    """Return the document with ``value`` at a place of mappings, which are made where there are none.

    Args:
        text: a YAML (or JSON) document, its top a mapping or empty.
        place: where; an index must be that of an item there is.
        value: plain data.

    Raises:
        InputError: it cannot be put there without changing something else.
    """
    key = place[-1]

    def change(holder: Any) -> None:
        holder[key] = copy.deepcopy(value)

    nodes, rest = _way(text, place)
    if rest and (not nodes or isinstance(nodes[-1], yaml.MappingNode)):
        new = _with_entry(text, nodes[-1] if nodes else None, str(rest[0]), _nested(rest[1:], value))
    else:  # an empty or a scalar value on the way makes room for a mapping
        new = _with_value(text, nodes, place[: len(place) - len(rest)], _nested(rest, value))
    return _checked(text, new, place, change)


def append(text: str, place: Place, value: Any) -> str:
    """Return the document with ``value`` as the last item of the sequence at a place, which has an item already.

    Raises:
        InputError: as `put`.
    """
    nodes, rest = _way(text, place)
    node = nodes[-1]
    if rest or not isinstance(node, yaml.SequenceNode) or not node.value:
        raise InputError(f"{dotted(place)} must be a list that is not empty, to append to")
    if node.flow_style:
        new = _inserted(text, _end(text, node.value[-1]), f", {_flow(text, value)}")
    else:
        new = _with_lines(text, _end(text, node), _block([value]), node.start_mark.column)
    return _checked(text, new, (*place, -1), lambda holder: holder.append(copy.deepcopy(value)))


def drop(text: str, place: Place) -> str:
    """Return the document without the item at a place, whose last part is its index.

    Raises:
        InputError: as `put`.
    """
    nodes, rest = _way(text, place)
    index, (items, item) = place[-1], nodes[-2:]
    if rest or not isinstance(index, int) or not isinstance(items, yaml.SequenceNode):
        raise InputError(f"{dotted(place)} must be an item of a list, to be removed")
    start, end = item.start_mark.index, _end(text, item)
    if items.flow_style:
        if index + 1 < len(items.value):
            end = items.value[index + 1].start_mark.index
        elif index:
            start = _end(text, items.value[index - 1])
        new = text[:start] + text[end:]
    else:
        new = text[: _line_start(text, start)] + text[_line_end(text, end) :]
        if len(items.value) == 1:  # a list without items cannot be on lines of its own
            new = _inserted(new, _colon(text, nodes[-3], place[-2]), " []")
    return _checked(text, new, place, lambda holder: holder.pop(index))


def _way(text: str, place: Place) -> tuple[list[Any], Place]:
    """Return the nodes from the top of the document along a place, and what of the place there is none for."""
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    nodes: list[Any] = [] if top is None else [top]
    for depth, key in enumerate(place):
        child = _child(nodes[-1], key) if nodes else None
        if child is None:
            return nodes, place[depth:]
        nodes.append(child)
    return nodes, ()


def _child(node: Any, key: str | int) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return node.value[key] if isinstance(key, int) and key < len(node.value) else None
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((child for name, child in reversed(pairs) if name.value == key), None)


def _with_entry(text: str, node: Any, key: str, value: Any) -> str:
    """Add a key to a mapping, after the last one."""
    if node is None:
        return text + ("" if not text or text.endswith("\n") else "\n") + _block({key: value})
    if not node.flow_style:
        return _with_lines(text, _end(text, node), _block({key: value}), node.value[0][0].start_mark.column)
    entry = _flow(text, {key: value})[1:-1]
    if not node.value:
        return _inserted(text, node.start_mark.index + 1, entry)
    return _inserted(text, _end(text, node, inside=True), f", {entry}")


def _with_value(text: str, nodes: Sequence[Any], place: Place, value: Any) -> str:
    """Replace a value there is, in lines of its own where it is a collection and those around it are."""
    node = nodes[-1]
    start, end = node.start_mark.index, _end(text, node)
    if len(nodes) == 1:  # a document that is null
        return text[:start] + _block(value) + text[end:]
    holder = nodes[-2]
    many = bool(value) and isinstance(value, (dict, list))
    if isinstance(holder, yaml.SequenceNode) or holder.flow_style:
        if many and not holder.flow_style:
            return text[:start] + _shifted(text, _block(value), node.start_mark.column).strip() + text[end:]
        return text[:start] + (" " if start == end else "") + _flow(text, value) + text[end:]
    key, colon = next(name for name, child in holder.value if child is node), _colon(text, holder, place[-1])
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:  # on lines of its own
        if many and (isinstance(value, list) or node.start_mark.column > key.start_mark.column):
            return text[:start] + _shifted(text, _block(value), node.start_mark.column).strip() + text[end:]
        comment = text[colon : _line_end(text, colon)].rstrip()
        return f"{text[:colon]} {_flow(text, value)}{comment}{text[end:]}"
    if many:
        return _with_lines(text[:colon] + text[end:], colon, _block(value), key.start_mark.column + 2)
    return text[:start] + (" " if start == end else "") + _flow(text, value) + text[end:]


def _with_lines(text: str, after: int, lines: str, column: int) -> str:
    """Insert lines, shifted to a column, below the line that holds a position."""
    position = _line_end(text, after)
    newline = "" if text[:position].endswith("\n") else _newline(text)
    return _inserted(text, position, newline + _shifted(text, lines, column))


def _inserted(text: str, position: int, new: str) -> str:
    return text[:position] + new + text[position:]


def _shifted(text: str, lines: str, column: int) -> str:
    return "".join(f"{' ' * column}{line}{_newline(text)}" for line in lines.splitlines())


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def _line_end(text: str, position: int) -> int:
    """Return where the line after that of a position begins."""
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1


def _colon(text: str, holder: Any, key: str | int) -> int:
    """Return the position after the colon of a key."""
    name = next(name for name, _ in reversed(holder.value) if name.value == key)
    return text.index(":", name.end_mark.index) + 1


def _end(text: str, node: Any, inside: bool = False) -> int:
    """Return where a value ends; PyYAML takes the comments behind a block for a part of it.

    Args:
        text: the document.
        node: the value.
        inside: of a flow collection, where its last item ends.
    """
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.ScalarNode):
        return int(start + len(text[start:end].rstrip()))
    if node.flow_style and not inside:
        return int(end)
    last = node.value[-1]
    if isinstance(last, tuple):
        key, last = last
        if last.start_mark.index < key.start_mark.index:  # an alias: the node is the one it stands for
            end = text.index(":", key.end_mark.index) + 1
            return int(end + len(text[end : _line_end(text, end)].split("#")[0].split(",")[0].split("}")[0].rstrip()))
    return _end(text, last)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Indents the items of lists, and never writes anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(value: Any) -> str:
    return _dump(value, flow=False)


def _flow(text: str, value: Any) -> str:
    """Return a value on one line, as JSON in a document that looks like it."""
    if text.lstrip().startswith("{"):
        return _json(value)
    return _dump([value], flow=True).strip()[1:-1]


def _dump(value: Any, flow: bool) -> str:
    return str(
        yaml.dump(value, Dumper=_Dumper, default_flow_style=flow, sort_keys=False, allow_unicode=True, width=10**6)
    )


def _json(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_json(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    # YAML 1.1 takes 1e-05 for a string, JSON takes 1.0e-05 too.
    return _dump([value], flow=True).strip()[1:-1] if isinstance(value, float) else json.dumps(value)


def _nested(keys: Place, value: Any) -> Any:
    for key in reversed(keys):
        value = {key: value}
    return value


def _checked(text: str, new: str, place: Place, change: Any) -> str:
    """Return the new document if it differs from the old one as it should, and by nothing else."""
    expected = holder = copy.copy(loaded(text, "document")) or {}
    for key in place[:-1]:
        held = holder.get(key) if isinstance(holder, dict) else holder[key]
        holder[key] = copy.copy(held) if isinstance(held, (dict, list)) else {}  # a copy: an alias is the same object
        holder = holder[key]
    change(holder)
    try:
        got = yaml.safe_load(new)
    except yaml.YAMLError:
        got = None
    if repr(got) != repr(expected):  # by their texts, since a NaN is not equal to itself
        raise InputError(
            f"{dotted(place)} must be a value of its own, to be set without touching others: one that is shared by"
            " anchor, or laid out in an unusual way, is yours to change"
        )
    return new


def dotted(place: Place) -> str:
    """Return a place as it is written on a command line."""
    return ".".join(map(str, place))
