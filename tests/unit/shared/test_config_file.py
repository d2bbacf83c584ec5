"""`leeward.yaml`: every fault is one line with file, line and field; what is right is loaded as it stands."""

import time
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from ops.local.fleet import local_fleet
from shared.config_file import MAX_SHOWN, ConfigError, fleet_faults, load, load_fleet
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.terms import Role

GOOD = dedent("""\
    node:
      role: edge
      id: edge-us-east
      region: us-east
      state_dir: /var/lib/leeward
      listen: 127.0.0.1:8080
      buses:
        us-east: kafka-1:9092, kafka-2:9092
    fleet:
      regions:
        - id: us-east
          distance_ms: {eu-west: 80}
        - id: eu-west
      targets:
        - id: alpha
          provider: acme
          model: large
          region: us-east
          url: https://api.example.com/v1
      monitors:
        - id: http
          kind: http
      routes:
        - id: chat
          match: {models: [chat]}
          tiers:
            - targets: [alpha]
    """)


def change(old: str, new: str) -> str:
    """GOOD with one thing in it changed."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "leeward.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def faults(path: Path, loader=load) -> list[str]:
    """The problems found, without the directory."""
    with pytest.raises(ConfigError) as caught:
        loader(path)
    return [problem.removeprefix(f"{path.parent}/") for problem in caught.value.problems]


def test_a_good_file_loads_as_it_stands(write):
    """Values arrive where they were written; what was left out has its default."""
    file = load(write(GOOD))
    assert file.node.role is Role.EDGE
    assert file.node.buses["us-east"].bootstrap == ("kafka-1:9092", "kafka-2:9092")
    assert file.fleet is not None
    assert file.fleet.by_distance("us-east") == ("us-east", "eu-west")
    assert file.fleet.targets[0].capacity_inflight == 256


def test_a_fleet_is_found_in_a_whole_file_beside_no_node_and_at_the_top(write):
    """`load_fleet` takes what people have: a whole file, `fleet:` alone, or a bare fleet."""
    whole = load_fleet(write(GOOD))
    alone = GOOD[GOOD.index("fleet:") :]
    assert load_fleet(write(alone)) == whole
    bare = dedent(alone.removeprefix("fleet:\n"))
    assert load_fleet(write(bare)) == whole


def test_a_fleet_file_without_a_fleet_says_so(write):
    """A node-only file is whole, but is no fleet."""
    node_only = GOOD[: GOOD.index("fleet:")]
    assert load(write(node_only)).fleet is None
    assert faults(write(node_only), load_fleet) == ["leeward.yaml: fleet: is missing; this command needs it"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            change("kind: http", "kind: http\n      timeot_s: 3"),
            "leeward.yaml:23: fleet.monitors[0].timeot_s: is not a known key; did you mean 'timeout_s'?",
            id="unknown-key",
        ),
        pytest.param(
            change("  monitors:", "  xyz: 1\n  monitors:"),
            "leeward.yaml:20: fleet.xyz: is not a known key; known here: regions, targets, monitors, routes, policy, drills, alerts, client_keys",
            id="unknown-key-like-nothing",
        ),
        pytest.param(
            change("      provider: acme\n", ""),
            "leeward.yaml:15: fleet.targets[0].provider: is missing; add it",
            id="missing-key",
        ),
        pytest.param(
            change("model: large", "model: large\n      capacity_inflight: many"),
            "leeward.yaml:18: fleet.targets[0].capacity_inflight: must be a whole number, not 'many'",
            id="wrong-type",
        ),
        pytest.param(
            change("model: large", "model: [large]"),
            "leeward.yaml:17: fleet.targets[0].model: must be text, on one line",
            id="list-for-text",
        ),
        pytest.param(
            change("model: large", "model: no"),
            'leeward.yaml:17: fleet.targets[0].model: must be text; YAML reads no as something else, so write "no"',
            id="yaml-reads-no-as-false",
        ),
        pytest.param(
            change("    - id: eu-west", "    - eu-west"),
            "leeward.yaml:13: fleet.regions[1]: must be a mapping (`key: value`), not 'eu-west'",
            id="text-for-mapping",
        ),
        pytest.param(
            change("        - targets: [alpha]", "        targets: [alpha]"),
            "leeward.yaml:26: fleet.routes[0].tiers: must be a list (`- item`), not a mapping",
            id="mapping-for-list",
        ),
        pytest.param(
            change("model: large", "model: large\n      capacity_inflight: 0"),
            "leeward.yaml:18: fleet.targets[0].capacity_inflight: 0 is too small: it must be at least 1",
            id="out-of-range",
        ),
        pytest.param(
            change("kind: http", "kind: htp"),
            "leeward.yaml:22: fleet.monitors[0].kind: 'htp' is not one of 'http', 'tcp', 'chat' or 'embedding'",
            id="not-in-the-list",
        ),
        pytest.param(
            change("provider: acme", "provider: Acme Inc"),
            "leeward.yaml:16: fleet.targets[0].provider: is not a name: use 1 to 63 of a-z 0-9 . _ - and begin and end with a letter or digit",
            id="bad-name",
        ),
        pytest.param(
            change("https://api.example.com/v1", "ftp://api.example.com"),
            "leeward.yaml:19: fleet.targets[0].url: must be an http:// or https:// URL with a host",
            id="bad-url",
        ),
        pytest.param(
            change("127.0.0.1:8080", "127.0.0.1"),
            "leeward.yaml:6: node.listen: is not an address; write host:port, as in 10.0.0.5:9092",
            id="bad-address",
        ),
        pytest.param(
            change("    - id: eu-west", "    - id: us-east\n    - id: eu-west"),
            "leeward.yaml:13: fleet.regions[1].id: 'us-east' is already the id of regions[0]",
            id="duplicate-id",
        ),
        pytest.param(
            change("model: large", "model: large\n      model: small"),
            "leeward.yaml:18: fleet.targets[0].model: is given twice, first on line 17; keep one",
            id="duplicate-key",
        ),
        pytest.param(
            change("[alpha]", "[alpha, gamma]"),
            "leeward.yaml:27: fleet.routes[0].tiers[0].targets[1]: no target 'gamma'",
            id="missing-target",
        ),
        pytest.param(
            change("      region: us-east\n      url", "      region: mars\n      url"),
            "leeward.yaml:18: fleet.targets[0].region: no region 'mars'",
            id="missing-region",
        ),
        pytest.param(
            change("kind: http", "kind: http\n      interval_s: 1\n      timeout_s: 5"),
            "leeward.yaml:24: fleet.monitors[0].timeout_s: 5 s is longer than interval_s 1 s: probes would overlap",
            id="impossible-monitor-timing",
        ),
        pytest.param(
            change("fleet:", "  timings:\n    fresh_s: 400\nfleet:"),
            "leeward.yaml:9: node.timings.static_s: must be longer than fresh_s",
            id="impossible-node-timing",
        ),
        pytest.param(
            change("  region: us-east\n  state_dir", "  region: mars\n  state_dir").replace(
                "us-east: kafka-1", "mars: kafka-1"
            ),
            "leeward.yaml:4: node.region: no region 'mars' in fleet.regions",
            id="node-outside-its-fleet",
        ),
        pytest.param(
            change("  listen: 127.0.0.1:8080\n", ""),
            "leeward.yaml:2: node.role: edge needs listen",
            id="incomplete-node",
        ),
        pytest.param(
            change("[alpha]", "[]"),
            "leeward.yaml:27: fleet.routes[0].tiers[0].targets: has 0 entries; give at least 1",
            id="too-few",
        ),
        pytest.param(
            change("  id: edge-us-east", "  1: 2\n  id: edge-us-east"),
            "leeward.yaml:3: node: has '1' as a key, which is not text; put it in quotes",
            id="key-that-is-not-text",
        ),
        pytest.param(
            change("model: large", "model: 2026-99-99"),
            "leeward.yaml:17: fleet.targets[0].model: looks like a timestamp and is none; put quotes around text",
            id="impossible-date",
        ),
    ],
)
def test_each_fault_is_named_with_its_line_and_field(write, text, expected):
    """One fault, one line: where it is, what is wrong, what to do."""
    assert faults(write(text)) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "leeward.yaml: is empty; see `leeward config schema` for what goes in", id="empty"),
        pytest.param(
            "# only this\n",
            "leeward.yaml: is empty; see `leeward config schema` for what goes in",
            id="comment",
        ),
        pytest.param("- 1\n", "leeward.yaml:1: must be a mapping (`key: value`), not a list", id="list"),
        pytest.param("a: [1,\nb: }", "leeward.yaml:2: is not YAML: while parsing a flow node", id="syntax"),
        pytest.param(
            "a:\n\tb: 1", "leeward.yaml:2: is not YAML: while scanning for the next token", id="tab"
        ),
        pytest.param(
            b"node:\n  id: \xff\xfe", "leeward.yaml:2: is not UTF-8; save it as UTF-8", id="encoding"
        ),
        pytest.param("a: \x01", "leeward.yaml: is not YAML: ", id="control-character"),
        pytest.param(
            "a: 1\n---\nb: 2\n", "leeward.yaml:2: holds a second document; keep one per file", id="documents"
        ),
        pytest.param("[" * 200_000, "leeward.yaml:1: is nested deeper than 32 levels", id="deep"),
        pytest.param("a: &a [*a]", "leeward.yaml:1: is nested deeper than 32 levels", id="alias-of-itself"),
        pytest.param(
            "a: *b", "leeward.yaml:1: is not YAML: found undefined alias (column 4)", id="alias-of-nothing"
        ),
        pytest.param(
            "a: !!python/object/apply:os.system [x]",
            "leeward.yaml:1: a: carries the tag 'python/object/apply:os.system'; write the plain value without it",
            id="tag",
        ),
        pytest.param(
            "x" * 10_000_000, "leeward.yaml: is larger than 1 MiB; nothing of it was read", id="ten-megabytes"
        ),
    ],
)
def test_a_file_of_which_nothing_can_be_made_gives_one_error_at_once(write, text, expected):
    """No pile of consequences, and no long wait, whatever the bytes are."""
    path = write(text)
    before = time.perf_counter()
    [only] = faults(path)
    assert only.startswith(expected)
    assert time.perf_counter() - before < 2.0


def test_aliases_that_multiply_are_refused(write):
    """A few hundred bytes may not become a billion values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    [only] = faults(write("\n".join(lines)))
    assert "holds more than 250000 values once aliases are expanded" in only


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    """What cannot be read is an error like any other."""
    missing = tmp_path / "nowhere.yaml"
    with pytest.raises(ConfigError) as caught:
        load(missing)
    assert caught.value.problems == (f"{missing}: cannot be read: No such file or directory; check the path",)
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


def test_all_faults_are_told_at_once_in_the_order_of_the_file(write):
    """Shape, names, references and timings in one run, though the shape alone already refuses the file."""
    text = (
        GOOD.replace("  id: edge-us-east", "  idd: edge-us-east")
        .replace("provider: acme", "provider: Acme")
        .replace("kind: http", "kind: http\n      timeout_s: 5")
        .replace("[alpha]", "[alpha, gamma]\n      colour: red")
        .replace("    - id: eu-west", "    - id: us-east")
    )
    found = faults(write(text))
    assert [line.split(": ")[1] for line in found] == [
        "node.id",
        "node.idd",
        "fleet.regions[0].distance_ms.eu-west",
        "fleet.regions[1].id",
        "fleet.targets[0].provider",
        "fleet.monitors[0].timeout_s",
        "fleet.routes[0].tiers[0].targets[1]",
        "fleet.routes[0].colour",
    ]
    numbers = [int(line.split(":")[1]) for line in found]
    assert numbers == sorted(numbers)


def test_a_faulty_item_is_not_reported_missing_by_those_that_name_it(write):
    """One error per fault: a target with a bad URL is still there for its route."""
    found = faults(write(change("https://api.example.com/v1", "nonsense")))
    assert len(found) == 1


def test_an_item_that_is_wrong_inside_a_list_does_not_make_the_list_too_short(write):
    """The one target is faulty; the list of targets is not empty."""
    found = faults(write(change("provider: acme", "provider: [acme]")))
    assert [line.split(": ")[1] for line in found] == ["fleet.targets[0].provider"]


def test_secrets_written_in_place_of_references_are_not_repeated(write):
    """The commonest mistake must not put the secret into a terminal or a log."""
    text = change(
        "fleet:",
        "  credentials:\n    acme: {secret: sk-very-secret, origins: ['https://u:sk-very-secret@api.example.com']}\nfleet:",
    )
    found = faults(write(text))
    assert len(found) == 2
    assert "sk-very-secret" not in "\n".join(found)
    assert "write env:NAME or file:PATH" in found[0]


def test_merge_keys_and_aliases_may_be_used(write):
    """Fifty targets may share their settings; a mapping's own key wins over a merged one."""
    text = change(
        "      url: https://api.example.com/v1",
        "      url: https://api.example.com/v1\n    - {<<: *alpha, id: beta, region: eu-west}",
    ).replace("    - id: alpha", "    - &alpha\n      id: alpha")
    fleet = load_fleet(write(text))
    assert [(target.id, target.region, target.model) for target in fleet.targets] == [
        ("alpha", "us-east", "large"),
        ("beta", "eu-west", "large"),
    ]


def test_thousands_of_faults_are_counted_rather_than_all_printed(write):
    """The report of a generated file that is wrong throughout stays readable."""
    rows = "".join(
        f"    - {{id: t{i}, provider: acme, model: m, region: mars, url: 'http://h/v1'}}\n"
        for i in range(1000)
    )
    found = faults(write(change("  monitors:\n", rows + "  monitors:\n")))
    assert len(found) == MAX_SHOWN + 1
    assert found[-1] == f"leeward.yaml: and {1000 - MAX_SHOWN} more"


def test_what_was_shown_can_be_read_back(tmp_path: Path) -> None:
    """`leeward config show` prints the fleet under its version; that file is as good as one with `fleet:`."""
    shown = FleetConfig(config_version=7, fleet=local_fleet()).model_dump(mode="json")
    path = tmp_path / "shown.yaml"
    path.write_text(yaml.safe_dump(shown, sort_keys=False))
    assert load_fleet(path) == local_fleet()


def test_a_fleet_in_json_has_the_faults_that_a_file_would_have(tmp_path: Path) -> None:
    """The same places and words, without lines; a good one has none, and is the fleet."""
    raw = local_fleet().model_dump(mode="json")
    assert fleet_faults(raw) == (local_fleet(), ())
    raw["targets"][0].update(url="ftp://x", capacity_inflight=0, nope=1)
    raw["routes"][0]["tiers"][0]["targets"][1] = "nobody"
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(ConfigError) as error:
        load_fleet(path)
    fleet, found = fleet_faults(raw)
    assert fleet is None
    assert len(found) == 4
    assert sorted(found) == sorted(line.split(": ", 1)[1] for line in error.value.problems)
