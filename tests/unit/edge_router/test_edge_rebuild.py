"""Tables made of what earlier ones have left good are the tables that would have been built from nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.core.holdings import read_config
from edge_router.core.known import CONFIGS_KEPT, Known, KnownEntries
from edge_router.core.rebuild import TableBuilder
from edge_router.core.table import Unsafe, build_table
from shared.vocabulary.base import NO_VERSION, Version, canonical_json
from shared.vocabulary.config import FleetConfig, problems
from shared.vocabulary.decision import Decision
from tests.support.edge_worlds import ROUTES, config_bytes, document

REGION = "us-east"
CONFIG = read_config(config_bytes()).config


def _decision(route: str, seq: int, **how: object) -> Decision:
    return Decision.model_validate_json(document(route, 1, seq, **how))


_step = st.tuples(
    st.sampled_from(ROUTES),
    st.sampled_from(["alpha-us-east", "alpha-eu-west", "beta-eu-west"]),
    st.booleans(),
)


@given(st.lists(_step, min_size=1, max_size=8))
def test_each_table_is_the_one_built_from_nothing(steps: list[tuple[str, str, bool]]) -> None:
    """Whatever moved before, expected or not."""
    builder = TableBuilder(REGION)
    documents: dict[str, Decision] = {}
    for seq, (route, first, expected) in enumerate(steps, start=1):
        documents = {**documents, route: _decision(route, seq, first=first)}
        if expected:
            builder.expect(documents[route])
        head = Version(1, seq)
        assert builder(CONFIG, documents, head) == build_table(CONFIG, documents, head, region=REGION)


def test_what_has_not_changed_is_not_built_again() -> None:
    """The targets, and the other routes: they are the same objects."""
    builder = TableBuilder(REGION)
    chat, embed = _decision("chat", 1), _decision("embed", 2)
    before = builder(CONFIG, {"chat": chat, "embed": embed}, Version(1, 2))
    after = builder(CONFIG, {"chat": chat, "embed": _decision("embed", 3)}, Version(1, 3))
    assert after.targets is before.targets
    assert after.routes["chat"] is before.routes["chat"]
    assert after.routes["embed"].version == Version(1, 3)


def test_a_document_is_built_when_it_comes_and_not_when_its_head_does() -> None:
    """The same content under another configuration is another entry."""
    builder = TableBuilder(REGION)
    builder(CONFIG, {}, NO_VERSION)
    early = _decision("chat", 1)
    builder.expect(early)
    entry = builder._known.at(1).route(CONFIG.fleet.routes_by_id["chat"], early, _never)  # type: ignore[union-attr]
    assert builder(CONFIG, {"chat": early}, Version(1, 1)).routes["chat"] is entry
    other = read_config(config_bytes(2)).config
    assert builder(other, {"chat": early}, Version(1, 1)).routes["chat"] is not entry


def _never(*_: object) -> object:
    raise AssertionError("it is known")


def test_an_unsafe_document_is_said_when_its_head_comes_and_not_before() -> None:
    """Expecting it changes nothing."""
    builder = TableBuilder(REGION)
    good = builder(CONFIG, {"chat": _decision("chat", 1)}, Version(1, 1))
    bad = _decision("chat", 2, first="nobody-knows-it")
    builder.expect(bad)
    with pytest.raises(Unsafe, match="nobody-knows-it"):
        builder(CONFIG, {"chat": bad}, Version(1, 2))
    assert builder(CONFIG, {"chat": _decision("chat", 1)}, Version(1, 1)) == good


def test_nobody_expects_what_has_no_configuration() -> None:
    """Of another version, of no known route, or a removal: nothing to build."""
    builder = TableBuilder(REGION)
    builder.expect(_decision("chat", 1))
    builder(CONFIG, {}, NO_VERSION)
    builder.expect(_decision("chat", 1, config_version=9))
    builder.expect(_decision("unknown", 1))


def test_a_configuration_read_ahead_is_taken_as_it_was_read() -> None:
    """The same object, so that its entries are known; one that is malformed says so when it comes."""
    builder = TableBuilder(REGION)
    raw = config_bytes(7)
    builder.read_ahead(raw)
    known = builder._known.at(7)
    assert known is not None
    assert read_config(raw).config is known.config
    builder.read_ahead(b"{")


def test_entries_of_two_configurations_are_kept() -> None:
    """The one in force, and the one that comes."""
    known = Known()
    configs = [FleetConfig(config_version=number, fleet=CONFIG.fleet) for number in range(3)]
    made = [known.of(config, lambda config: KnownEntries(config, {}, {})) for config in configs]
    assert known.of(configs[2], _never) is made[2]  # type: ignore[arg-type]
    assert known.of(configs[1], _never) is made[1]  # type: ignore[arg-type]
    assert known.at(0) is None
    assert CONFIGS_KEPT == 2


def test_a_stored_key_whose_route_has_gone_is_no_reason_to_refuse_a_configuration() -> None:
    """Files with such a key are refused; what was accepted before is served by."""
    key = {"id": "app", "sha256": "a" * 64, "routes": ["gone"]}
    whole = CONFIG.model_dump(mode="json")
    whole["fleet"]["client_keys"] = [key]
    whole["config_version"] = 99
    fleet = read_config(canonical_json(whole)).config.fleet
    assert [where for where, _ in problems(fleet)] == [("client_keys", 0, "routes", 0)]
