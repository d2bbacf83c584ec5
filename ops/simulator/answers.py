"""What the simulated model says: a pure function of the prompt, so that any target gives the same answer
and a reader can tell a whole answer from a truncated one.

An answer is words from a fixed list, drawn by the prompt's hash, and ends with a checksum of the
words before it. Every word is one token. A prompt may ask for a length ("in 500 words") or for one
word ("Reply with the single word: ready").
"""

import hashlib
import math
import re
import struct
from dataclasses import dataclass

MAX_TOKENS = 100_000
DEFAULT_DIMENSIONS = 256
MAX_DIMENSIONS = 4096

# fmt: off
_WORDS = (
    "amber", "anchor", "basin", "beacon", "birch", "breeze", "bridge", "canyon", "cedar", "cliff",
    "cloud", "coast", "copper", "coral", "crest", "current", "delta", "drift", "dune", "ember", "estuary",
    "fern", "field", "fjord", "flint", "forest", "gale", "garnet", "glade", "granite", "grove", "harbor",
    "hazel", "heath", "horizon", "inlet", "island", "juniper", "lagoon", "lantern", "ledge", "lichen",
    "maple", "marsh", "meadow", "mist", "moss", "oak", "opal", "orchard", "pebble", "pine", "plain",
    "prairie", "quartz", "rapids", "reef", "ridge", "river", "shoal", "slate", "spring", "summit",
    "thicket", "tide", "timber", "valley", "willow",
)
# fmt: on
_SHORTEST, _LONGEST = 8, 64

_ONE_WORD = re.compile(r"^\s*Reply with the single word: (\S+)\s*$")
_LENGTH = re.compile(r"\b(\d{1,6}) (?:words|tokens)\b")


@dataclass(frozen=True, slots=True)
class Answer:
    """`tokens` joined give the text; `complete` is false where `max_tokens` cut it short."""

    tokens: tuple[str, ...]
    complete: bool

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.tokens)


def answer(prompt: str, max_tokens: int | None = None) -> Answer:
    """The answer to `prompt` in at most `max_tokens` tokens. Cut short or not, it ends with its checksum."""
    asked = _ONE_WORD.match(prompt)
    if asked:
        return Answer((asked[1],), complete=True)
    seed = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
    wanted = _length(prompt, seed)
    count = max(1, min(wanted, max_tokens or wanted))
    drawn = hashlib.shake_128(seed).digest(count - 1)
    words = [_WORDS[byte % len(_WORDS)] for byte in drawn]
    words.append(_checksum(" ".join(words)))
    tokens = (words[0], *(f" {word}" for word in words[1:]))
    return Answer(tokens, complete=count == wanted)


def expected_answer(prompt: str, max_tokens: int | None = None) -> str:
    """The text that every simulated target gives for `prompt`."""
    return answer(prompt, max_tokens).text


def is_whole(text: str) -> bool:
    """Whether `text` is an answer as it was made: nothing lost, repeated or changed. Not for one-word answers."""
    body, _, last = text.rpartition(" ")
    return last == _checksum(body)


def after_prefill(whole: Answer, prefill: str) -> Answer:
    """What is left of an answer when the request already holds its beginning; all of it when it does not."""
    if not prefill or not whole.text.startswith(prefill):
        return whole
    rest = whole.text[len(prefill) :]
    return Answer(tuple(re.findall(r"\s*\S+", rest)), whole.complete)


def count_tokens(text: str) -> int:
    """Tokens of a prompt: its words."""
    return len(text.split())


def embedding(text: str, dimensions: int = DEFAULT_DIMENSIONS) -> list[float]:
    """A unit vector drawn by the text's hash."""
    raw = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    numbers = struct.unpack(f"<{dimensions}h", raw)
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _length(prompt: str, seed: bytes) -> int:
    asked = _LENGTH.search(prompt)
    if asked:
        return max(1, min(int(asked[1]), MAX_TOKENS))
    return _SHORTEST + int.from_bytes(seed[:4], "big") % (_LONGEST - _SHORTEST + 1)


def _checksum(body: str) -> str:
    return "sum-" + hashlib.sha256(body.encode()).hexdigest()[:8]
