"""A client's key, as the fleet's configuration writes it."""

from shared.vocabulary.base import ConfigModel, Id, Sha256
from shared.vocabulary.monitor import Text


class ClientKey(ConfigModel):
    """A key that clients present; only its hash is kept."""

    id: Id
    sha256: Sha256
    routes: tuple[Text, ...] = ("*",)
    """Route ids or shell patterns."""
