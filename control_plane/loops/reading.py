"""Values of etcd keys as messages. Whatever else stands there is said aloud and treated as absent."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.log import get_logger

log = get_logger(__name__)

Kind = TypeVar("Kind", bound=BaseModel)


def read(kind: type[Kind], raw: bytes | None, *, what: str) -> Kind | None:
    """`raw` as a `kind`; None when it is absent or none of ours."""
    if raw is None:
        return None
    try:
        return kind.model_validate_json(raw, extra="ignore")
    except ValidationError as error:
        log.warning("etcd holds what cannot be read", what=what, problems=error.error_count())
        return None
