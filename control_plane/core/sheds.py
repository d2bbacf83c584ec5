"""What share of each route the decisions in force turn away, read from the documents without taking them apart."""

from collections.abc import Mapping

import msgspec


class _Region(msgspec.Struct):
    shed_permille: int = 0


class _Document(msgspec.Struct):
    regions: dict[str, _Region] = {}


_DECODER = msgspec.json.Decoder(_Document)


def shed_of(documents: Mapping[str, bytes]) -> dict[tuple[str, str], int]:
    """Permille by (route, region), of `documents` by route; those that cannot be read are left out."""
    found = {}
    for route, raw in documents.items():
        try:
            document = _DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        for region, decided in document.regions.items():
            found[route, region] = decided.shed_permille
    return found
