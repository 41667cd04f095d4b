"""A YAML document whose values change while its comments, key order, quotes and anchors stay, by ruamel.yaml.

ruamel.yaml keeps a comment with the value above it, so a value that is added after that one would stand below the
comments of what follows, and a removed value would take them along: they are moved here. Scalars are never interpreted,
so that each is written as it was read. Comments between the items of a list in brackets are lost.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from lrfinder.cli.config_read import parse_yaml, value_at
from lrfinder.errors import InputError

__all__ = ["Place", "YamlDocument", "dotted"]

Place = Sequence[str | int]
"""Keys of mappings and indices of lists that lead from the top of a document to a value."""

_MARK = " #ruamel-keeps-what-follows"


class YamlDocument:
    """The content of a YAML or JSON file while it is being changed.

    Args:
        text: the document, its top a mapping or empty.
        name: what to call it in errors.

    Attributes:
        data: its plain data, nothing of which is shared.

    Raises:
        InputError: ruamel.yaml cannot read it.
    """

    def __init__(self, text: str, name: str) -> None:
        self._name, self._old = name, text.replace("\r\n", "\n")
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self.is_json = _is_json(text)
        self.data: Any = json.loads(text) if self.is_json else _unshared(parse_yaml(text, name))
        self._head = self._old.rstrip("\n") + "\n" if self.data is None and self._old.strip() else ""
        self._tree: Any = _unshared(self.data) if self.is_json else _load(_marked(self._old), name)
        if self.data is None:
            self.data, self._tree = {}, _load("{}", name)
            self._tree.fa.set_block_style()
        self._indents = _indents(self._tree)
        events = [] if self.is_json else yaml.parse(self._old, Loader=yaml.SafeLoader)
        self._aliased = {event.anchor for event in events if isinstance(event, yaml.AliasEvent)}

    def put(self, place: Place, value: Any) -> None:
        """Set a value, plain data; mappings on the way are made if there are none.

        Raises:
            InputError: another place shares the value, or what holds it, by an anchor.
        """
        depth = next(n for n in range(1, len(place) + 1) if n == len(place) or not self._holds_more(place[:n]))
        for key in reversed(place[depth:]):
            value = {key: value}
        data, tree = self._walk(place[: depth - 1], place)
        key = place[depth - 1]
        is_new = isinstance(tree, dict) and key not in tree
        if not is_new:
            self._check_own(tree[key], place)
        data[key] = _unshared(value)
        above = (list(tree)[-1] if tree else None) if is_new else key
        below = "" if above is None else _take_below(tree, above)
        tree[key] = self._node(value)
        if not self.is_json and key in tree.ca.items:
            _set_comment_apart(tree, key)
        _add_below(*_last_line(tree, key), below)

    def append(self, place: Place, value: Any) -> None:
        """Add an item to a list that is not empty.

        Raises:
            InputError: as in `put`.
        """
        data, tree = self._walk(place, place)
        below = _take_below(tree, len(tree) - 1)
        data.append(_unshared(value))
        tree.append(self._node(value))
        _add_below(*_last_line(tree, len(tree) - 1), below)

    def remove(self, place: Place) -> None:
        """Remove the item of a list.

        Raises:
            InputError: as in `put`.
        """
        *way, index = place
        data, tree = self._walk(way, place)
        if len(data) == 1:  # an empty list stands beside its key
            return self.put(way, [])
        below = _take_below(tree, index)
        del data[index], tree[index]
        if index:
            return _add_below(*_last_line(tree, int(index) - 1), below)
        return _add_below(self._walk(way[:-1], place)[1], way[-1], below)

    def text(self) -> str:
        """Return the document with its changes.

        Raises:
            InputError: something else would change too.
        """
        if self.is_json:
            indent = re.match(r"\s*\{\s*?\n([ \t]+)", self._old)
            return json.dumps(self.data, indent=indent and indent[1], ensure_ascii=False) + "\n"
        stream = io.StringIO()
        round_trip = _round_trip()
        round_trip.indent(**self._indents)
        round_trip.explicit_start = self._old.startswith("---")
        round_trip.dump(self._tree, stream)
        text = self._head + re.sub(f" *{_MARK}", "", stream.getvalue())
        if repr(parse_yaml(text, self._name)) != repr(self.data):  # as texts, since a NaN is not equal to itself
            raise InputError(f"{self._name} must be YAML that ruamel.yaml can rewrite, got a layout it would change")
        return text.replace("\n", self._newline)

    def _holds_more(self, place: Place) -> bool:
        return isinstance(value_at(self.data, place), (dict, list))

    def _walk(self, way: Place, place: Place) -> tuple[Any, Any]:
        """Return what is at the end of a way, as plain data and in the tree."""
        data, tree = self.data, self._tree
        for key in way:
            if isinstance(tree, dict) and key not in tree:  # merged from another mapping
                raise _shared(place)
            data, tree = data[key], tree[key]
            self._check_own(tree, place)
        return data, tree

    def _check_own(self, value: Any, place: Place) -> None:
        anchor = getattr(value, "yaml_anchor", lambda: None)()
        if anchor is not None and anchor.value in self._aliased:
            raise _shared(place)

    def _node(self, value: Any) -> Any:
        """Return a value as part of the tree; PyYAML spells it, so that YAML 1.1 reads 1e-05 and "yes" as they are."""
        if self.is_json:
            return value
        from ruamel.yaml.scalarstring import PlainScalarString

        text = yaml.safe_dump([_unshared(value)], sort_keys=False, allow_unicode=True, width=2**31)
        node = _load(text, self._name)[0]
        return PlainScalarString(node) if type(node) is str else node  # a bare text would get the old one's quotes


def dotted(place: Place) -> str:
    """Return a place as it is written on a command line."""
    return ".".join(map(str, place))


def _shared(place: Place) -> InputError:
    return InputError(
        f"{dotted(place)} must be a value of its own, to be set without touching others, got one that is shared by an"
        " anchor: change it yourself"
    )


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _marked(text: str) -> str:
    """Return a document with a comment beside each value in brackets: without, ruamel.yaml loses comments below it."""
    depth, parts, done = 0, [], 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        depth += isinstance(token, (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken))
        if isinstance(token, (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)):
            depth, end = depth - 1, token.end_mark.index
            if depth == 0 and re.match(r"[ \t]*\n\s*\S", text[end:]):  # ends a line, and something follows
                parts += [text[done:end], _MARK]
                done = end
    return "".join(parts) + text[done:]


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(held) for key, held in value.items()}
    return [_unshared(held) for held in value] if isinstance(value, list) else value


def _round_trip() -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.resolver import BaseResolver

    class Verbatim(BaseResolver):
        """Takes every scalar for a text, so that 0x10, 1e-3, yes and null are written as they were read."""

        processing_version = (1, 1)

        def __init__(self, version: Any = None, loader: Any = None) -> None:
            super().__init__(loader)

    round_trip = YAML(typ="rt", pure=True)
    round_trip.Resolver = Verbatim
    round_trip.preserve_quotes = True
    round_trip.width = 2**31
    round_trip.brace_single_entry_mapping_in_flow_sequence = True
    return round_trip


def _load(text: str, name: str) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return _round_trip().load(text)
    except YAMLError as error:  # a key that occurs twice, for example
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{name} must be YAML that ruamel.yaml can rewrite, got {problem}") from None


def _is_block(value: Any) -> bool:
    return isinstance(value, (dict, list)) and bool(value) and hasattr(value, "fa") and not value.fa.flow_style()


def _indents(tree: Any) -> dict[str, int]:
    """Return the indentation of the first mapping, of the first list, and of its dashes, or else the usual one."""
    indents: dict[str, int] = {}
    holders: list[Any] = [tree] if _is_block(tree) else []
    for holder in holders:  # which grows
        in_mapping = isinstance(holder, dict)
        for value in holder.values() if in_mapping else holder:
            if not _is_block(value) or value.yaml_anchor() is not None:
                continue
            holders.append(value)
            indent, is_list = value.lc.col - holder.lc.col, isinstance(value, list)
            if in_mapping:
                indents.setdefault("offset" if is_list else "mapping", indent)
            if in_mapping and is_list:
                indents.setdefault("sequence", value.lc.item(0)[1] - holder.lc.col)
    indents.setdefault("mapping", 2)
    indents.setdefault("offset", indents["mapping"])
    return {"sequence": indents["offset"] + 2, **indents}


def _last_line(holder: Any, key: Any) -> tuple[Any, Any]:
    """Return the holder and the key of the last line of a value, where ruamel.yaml keeps the comments below it."""
    while _is_block(holder[key]) and holder[key].yaml_anchor() is None:
        holder = holder[key]
        key = list(holder)[-1] if isinstance(holder, dict) else len(holder) - 1
    return holder, key


def _take_below(holder: Any, key: Any) -> str:
    """Remove and return the comments and empty lines below a value; the one beside it stays."""
    holder, key = _last_line(holder, key)
    slot = 2 if isinstance(holder, dict) else 0
    comments = holder.ca.items.get(key) if hasattr(holder, "ca") else None
    if not comments or comments[slot] is None:
        return ""
    text = comments[slot].value
    beside, newline, below = text.partition("\n")
    if "\n" in str(holder[key]):  # nothing stands beside a text of several lines
        beside, below = "", " " * comments[slot].start_mark.column + text
    comments[slot].value = beside + newline
    if not beside:
        comments[slot] = None
    return str(below)


def _set_comment_apart(holder: Any, key: Any) -> None:
    """Move the comment beside a new value to where the old value had it, or at least two spaces behind the new one."""
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    slot, comments = 2 if isinstance(holder, dict) else 0, holder.ca.items[key]
    comments[3:] = [None]  # ruamel.yaml's note that a block list stood there
    if comments[slot] is not None and comments[slot].value.startswith("#"):
        column = 0 if _is_block(holder[key]) else comments[slot].start_mark.column - 1
        comments[slot] = CommentToken(f" {comments[slot].value}", CommentMark(column), None)


def _add_below(holder: Any, key: Any, text: str) -> None:
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    if text:
        comments = holder.ca.items.setdefault(key, [None] * 4)
        slot = 2 if isinstance(holder, dict) else 0
        if comments[slot] is None:
            comments[slot] = CommentToken("\n", CommentMark(0), None)
        comments[slot].value += text
