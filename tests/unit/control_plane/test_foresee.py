"""Looking ahead: what would be decided at once, and where that leads."""

from datetime import timedelta

from control_plane.core.foresee import Outlook, assuming, traffic, warnings
from control_plane.core.onward import Course, onward
from control_plane.core.orders import NO_ORDERS, Orders
from shared.vocabulary.config import FleetConfig
from shared.vocabulary.override import Override, OverrideSpec
from tests.unit.control_plane.brain_worlds import World, fleet_config

CHAT_EU = ("chat", "eu-west")


def course(world: World) -> Course:
    """Where `world` stands."""
    return Course(world.head, world.documents, world.memory, world.generation)


def looked(
    world: World, *, down: tuple[str, ...] = (), orders: Orders = NO_ORDERS, config: FleetConfig | None = None
) -> Outlook:
    """A finished look ahead from where `world` stands."""
    assert world.view is not None
    view = assuming(world.view, [world.config.fleet.targets_by_id[target] for target in down])
    outlook = Outlook(course(world), config or world.config, view, orders=orders, now=world.now)
    for _ in outlook.passes():
        pass
    return outlook


def calm(**fields: object) -> World:
    """A world in which everything has been decided."""
    world = World(fleet_config(policy=fields))
    for _ in range(3):
        world.tick()
    return world


def order(world: World, **spec: object) -> Orders:
    """One override."""
    return Orders(
        (
            Override(
                id="o-1",
                spec=OverrideSpec.model_validate(spec),
                reason="test",
                author="test",
                created_at=world.now,
                expires_at=world.now + timedelta(hours=1),
            ),
        )
    )


def test_a_pass_is_what_the_leader_would_commit() -> None:
    """The same head and documents as `decide` proposes, but for whose term it is."""
    world = calm()
    world.everywhere_down("alpha-eu-west")
    world.clock_s += 1
    world.report()
    view = world.look()
    step = onward(course(world), world.config, view, now=world.now)
    proposal = world.propose()
    assert proposal is not None
    assert step.changed["chat"].regions == proposal.documents["chat"].regions
    assert step.changed["chat"].reasons == proposal.documents["chat"].reasons
    assert step.course.memory == proposal.memory
    assert step.course.head is not None
    assert step.course.head.version == proposal.head.version


def test_nothing_would_change() -> None:
    """A quiet fleet stays as it is, and the look ahead ends."""
    outlook = looked(calm())
    assert outlook.at_once is not None
    assert not outlook.at_once.changed
    assert (outlook.settled, outlook.after_s) == (True, 0.0)


def test_an_assumed_outage_moves_traffic_at_once() -> None:
    """DOWN on hard evidence: whoever used it uses the next one, and that is the end of it."""
    world = calm()
    outlook = looked(world, down=("alpha-eu-west",))
    assert outlook.at_once is not None
    before, after = traffic(world.documents), traffic(outlook.at_once.changed)
    assert before[CHAT_EU] == {"alpha-eu-west": 1_000_000}
    assert after[CHAT_EU] == {"alpha-us-east": 1_000_000}
    assert traffic(outlook.course.documents)[CHAT_EU] == after[CHAT_EU]
    assert outlook.settled


def test_a_return_is_followed_up_its_ramp() -> None:
    """At once a tenth of its traffic, in the end all of it, after the time the ramp takes."""
    world = calm(ramp_s=60.0, hold_down_s=2.0)
    world.everywhere_down("alpha-eu-west")
    world.tick()
    world.everywhere_up("alpha-eu-west")
    world.clock_s += 5
    world.report()
    world.look()
    outlook = looked(world)
    assert outlook.at_once is not None
    assert traffic(outlook.at_once.changed)[CHAT_EU]["alpha-eu-west"] == 100_000
    assert traffic(outlook.course.documents)[CHAT_EU] == {"alpha-eu-west": 1_000_000}
    assert 60 <= outlook.after_s <= 90
    assert outlook.settled


def test_soft_evidence_is_followed_to_its_end() -> None:
    """A fifth of the route's weight every 30 s: gone after five moves."""
    world = calm(soft_move_permille=200, soft_interval_s=30.0)
    world.everywhere_down("alpha-eu-west", hard=False)
    world.clock_s += 1
    world.report()
    world.look()
    outlook = looked(world)
    assert outlook.at_once is not None
    assert traffic(outlook.at_once.changed)[CHAT_EU]["alpha-eu-west"] == 800_000
    assert "alpha-eu-west" not in traffic(outlook.course.documents)[CHAT_EU]
    assert 120 <= outlook.after_s <= 150


def test_an_order_is_foreseen() -> None:
    """A drain takes its target from everybody, and stays while the order does."""
    world = calm()
    outlook = looked(world, orders=order(world, kind="drain", region="eu-west"))
    used = {target for clients in traffic(outlook.course.documents).values() for target in clients}
    assert not any(target.endswith("eu-west") for target in used)


def test_looking_ahead_changes_nothing() -> None:
    """The world decides afterwards as if nobody had asked."""
    world, untouched = calm(), calm()
    looked(world, down=("alpha-eu-west", "alpha-us-east"))
    for each in (world, untouched):
        each.everywhere_down("alpha-ap-south")
        each.tick()
    assert world.documents == untouched.documents
    assert world.memory == untouched.memory


def test_requests_to_the_dead_are_warned_of() -> None:
    """Everybody DOWN: the last resort is used, and said to be what it is."""
    world = calm()
    outlook = looked(world, down=world.targets)
    view = assuming(world.view, world.config.fleet.targets) if world.view else None
    assert view is not None
    told = list(warnings(outlook.course.documents, view))
    assert {each.route for each in told} == {"chat"}
    assert {each.region for each in told if each.grave} == {"us-east", "eu-west", "ap-south"}


def test_a_lone_survivor_is_warned_of() -> None:
    """Not grave: everything is served, but nobody stands by."""
    world = calm()
    down = tuple(target for target in world.targets if target != "beta-ap-south")
    outlook = looked(world, down=down)
    assert world.view is not None
    told = list(warnings(outlook.course.documents, assuming(world.view, ())))
    assert {each.what for each in told} == {"nobody stands by for beta-ap-south"}
    assert not any(each.grave for each in told)
