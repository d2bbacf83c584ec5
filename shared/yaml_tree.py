"""YAML that remembers its lines: parsed safely, within limits, without the surprises a configuration can do without.

Refused here: files over 1 MiB, deep nesting, aliases that multiply ("billion laughs"), keys given
twice, keys that are not text, tags, more than one document. What the values mean is not looked at.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 250_000
"""After aliases are expanded; more than a megabyte of sensible configuration holds."""

Where = tuple[str | int, ...]
"""Path of a value from the top of the document: `("fleet", "targets", 3, "url")`."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp"))
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast, where it is


class Fault(NamedTuple):
    """One thing wrong, and where. Line 0 is the file as a whole."""

    line: int
    where: Where
    what: str


class Lines(Protocol):
    """Where values stand, for whoever explains what is wrong with them."""

    def line(self, where: Where) -> int:
        """The 1-based line of the value at `where`; 0 where there are no lines."""
        ...

    def text(self, where: Where) -> str | None:
        """The scalar at `where` as it is written, or None."""
        ...


class NoLines:
    """`Lines` of what did not come from a file."""

    def line(self, where: Where) -> int:
        """0: there are none."""
        return 0

    def text(self, where: Where) -> str | None:
        """None: it was not written by hand."""
        return None


class Unreadable(Exception):
    """Nothing can be made of the file; `fault` says why."""

    def __init__(self, what: str, *, line: int = 0, where: Where = ()) -> None:
        super().__init__(what)
        self.fault = Fault(line, where, what)


class Tree:
    """A document as plain values (`value`), what was wrong with its keys (`faults`), and the line of any path."""

    def __init__(self, root: yaml.Node) -> None:
        self._root = root
        self._left = MAX_VALUES
        self._scalars = yaml.constructor.SafeConstructor()
        self.faults: list[Fault] = []
        self.value: Any = self._plain(root, ())

    def line(self, where: Where) -> int:
        """The 1-based line of the value at `where`, or of the innermost value around it that exists.

        For an entry of a mapping that is the line of its key.
        """
        node, line = self._root, self._root.start_mark.line
        for step in where:
            found = self._child(node, step)
            if found is None:
                break
            line, node = found
        return line + 1

    def holds(self, where: Where) -> bool:
        """Whether the document has a value at `where`."""
        node = self._root
        for step in where:
            found = self._child(node, step)
            if found is None:
                return False
            node = found[1]
        return True

    def text(self, where: Where) -> str | None:
        """The scalar at `where` as it is written, or None when there is none."""
        node = self._root
        for step in where:
            found = self._child(node, step)
            if found is None:
                return None
            node = found[1]
        return str(node.value) if isinstance(node, yaml.ScalarNode) else None

    def _child(self, node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
        if isinstance(node, yaml.MappingNode):
            for key, value in _entries(node):
                if key.value == step:
                    return key.start_mark.line, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            item = node.value[step]
            return item.start_mark.line, item
        return None

    def _plain(self, node: yaml.Node, where: Where) -> Any:
        line = node.start_mark.line + 1
        self._left -= 1
        if self._left < 0:
            raise Unreadable(
                f"holds more than {MAX_VALUES} values once aliases are expanded", line=line, where=where
            )
        if len(where) > MAX_DEPTH:
            raise Unreadable(f"is nested deeper than {MAX_DEPTH} levels", line=line)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self._plain(item, (*where, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                return self._scalars.construct_object(node)
            except (ValueError, OverflowError):
                kind = node.tag.removeprefix(_TAG)
                self.faults.append(
                    Fault(line, where, f"looks like a {kind} and is none; put quotes around text")
                )
                return None
        tag = node.tag.removeprefix(_TAG)
        raise Unreadable(f"carries the tag {tag!r}; write the plain value without it", line=line, where=where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        first: dict[str, int] = {}
        own = {id(key) for key, _ in node.value}
        for key, value in _entries(node):
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                written = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                self.faults.append(
                    Fault(line, where, f"has {written} as a key, which is not text; put it in quotes")
                )
            elif key.value not in plain:
                first[key.value] = line
                plain[key.value] = self._plain(value, (*where, key.value))
            elif id(key) in own:  # a merged key yields to one of the mapping's own, without a word
                what = f"is given twice, first on line {first[key.value]}; keep one"
                self.faults.append(Fault(line, (*where, key.value), what))
        return plain


def read(path: Path) -> Tree:
    """Parse the file. Raises Unreadable; keys' faults are collected in the tree instead."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}; check the path") from None
    return parse(raw)


def parse(raw: bytes) -> Tree:
    """Parse the bytes of a document. Raises Unreadable."""
    if len(raw) > MAX_BYTES:
        raise Unreadable(f"is larger than {MAX_BYTES >> 20} MiB; nothing of it was read")
    try:
        text = raw.decode("utf-8-sig")
        _check_shape(text)
        root = yaml.compose(text, Loader=_Loader)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Unreadable("is not UTF-8; save it as UTF-8", line=line) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        column = f" (column {error.problem_mark.column + 1})" if error.problem_mark else ""
        because = ", ".join(part for part in (error.context, error.problem) if part)
        raise Unreadable(f"is not YAML: {because}{column}", line=line) from None
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", "it cannot be parsed")
        raise Unreadable(f"is not YAML: {reason}") from None
    if root is None:
        raise Unreadable("is empty; see `leeward config schema` for what goes in")
    return Tree(root)


def _check_shape(text: str) -> None:
    """Bound depth and number of documents before anything recursive sees them."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        line = event.start_mark.line + 1 if event.start_mark else 0
        if depth > MAX_DEPTH:
            raise Unreadable(f"is nested deeper than {MAX_DEPTH} levels", line=line)
        if documents > 1:
            raise Unreadable("holds a second document; keep one per file", line=line)


def _entries(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Its own entries, then those that `<<:` merges in (YAML 1.1 merge keys, one level)."""
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
        else:
            yield key, value
    for other in merged:
        if isinstance(other, yaml.MappingNode):
            yield from other.value
