"""Which metrics a PromQL expression names, and which of its labels: enough of the grammar to check names against the code."""

import re
from collections.abc import Iterator

_SELECTOR = re.compile(r"\b(leeward_[a-z0-9_]+)(\{[^}]*\})?")
_MATCHER = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*"')


def named(expr: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Every metric of ours that `expr` names, with the labels by which it selects."""
    for metric, matchers in _SELECTOR.findall(expr):
        yield metric, frozenset(_MATCHER.findall(matchers))


def balanced(expr: str) -> bool:
    """Whether brackets, outside of quotes, close as they open."""
    closing = {")": "(", "}": "{", "]": "["}
    stack: list[str] = []
    for character in re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr):
        if character in closing.values():
            stack.append(character)
        elif character in closing and (not stack or stack.pop() != closing[character]):
            return False
    return not stack
