"""Every Kafka-protocol broker that can be had on this machine, behind one face for the bus contract suite.

`tansu` and `librdkafka` come in wheels; `apache` is Apache Kafka itself, one KRaft node from Maven Central on
Java 17; `container` is Kafka in Docker; `memory` is our own double. `why_not` says why one is not at hand.
"""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import ClassVar

from ops.local import bus as embedded
from shared.adapters.kafka import KafkaBus
from shared.adapters.memory import MemoryBroker
from shared.clock import SystemClock
from shared.ports import Bus
from shared.topics import TopicSpec
from shared.vocabulary.node import BusAddress
from tests.support.processes import HOST, Child, free_ports, temporary_directory, until

ROOT = Path(__file__).parents[2]
KAFKA_VERSION = "4.1.1"
KAFKA_CLUSTER_ID = "bGVld2FyZC10ZXN0cy0xMg"
KAFKA_JARS = ROOT / ".cache" / "kafka" / KAFKA_VERSION
KAFKA_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>leeward</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
<version>{KAFKA_VERSION}</version></dependency></dependencies></project>"""


class Broker:
    """One broker. `can` names what it is able to do beyond serving: `restart` on its old address,
    `empty` (without its data), `keep` (with its data), `pause`, `create` topics as specified and add `partitions`,
    find offsets by `times`, keep a record with `damage` (others refuse it), keep both of two `first` messages
    that meet in an empty partition (tansu forgets one in a hundred times), do all that `quick`ly."""

    name: ClassVar[str]
    can: ClassVar[frozenset[str]] = frozenset()
    fetch_max_wait_ms: ClassVar[int] = 500

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.stack = stack
        self.bootstrap = ""
        self.child: Child | None = None

    @staticmethod
    def why_not() -> str | None:
        """The reason why it cannot be had here, or None."""
        return None

    async def start(self) -> None:
        """Start it and wait until it answers; again after `kill`."""
        raise NotImplementedError

    async def kill(self) -> None:
        """End it without a word."""
        assert self.child is not None
        self.child.stop()

    async def restart(self, *, empty: bool) -> None:
        """Start it again on the same address."""
        await self.start()

    def pause(self) -> None:
        """Connected, but silent."""
        assert self.child is not None
        self.child.pause()

    def resume(self) -> None:
        """End of `pause`."""
        assert self.child is not None
        self.child.resume()

    @asynccontextmanager
    async def bus(self, topics: Sequence[TopicSpec] = (), *, client: str = "test") -> AsyncIterator[Bus]:
        """A bus on it, closed afterwards."""
        address = BusAddress(
            bootstrap=(self.bootstrap,), fetch_max_wait_ms=self.fetch_max_wait_ms, replication_factor=1
        )
        bus = KafkaBus("here", address, client_id=client, clock=SystemClock(), topics=topics)
        try:
            yield bus
        finally:
            await bus.close()


class Tansu(Broker):
    """The embedded broker of the local stack."""

    name = "tansu"
    can = frozenset({"restart", "empty", "quick", "pause", "create", "times", "damage"})
    fetch_max_wait_ms = 25

    async def start(self) -> None:
        port = int(self.bootstrap.rpartition(":")[2]) if self.bootstrap else free_ports(1)[0]
        self.bootstrap = f"{HOST}:{port}"
        argv = embedded.broker_argv(port)
        log, env = self.directory / "tansu.log", embedded.broker_env(os.environ)
        self.child = self.stack.enter_context(Child(argv, log=log, env=env))
        await until(lambda: embedded.is_up(port), within_s=20, what=f"{self.name} answers")


class Librdkafka(Broker):
    """librdkafka's mock cluster, in a process of its own."""

    name = "librdkafka"
    can = frozenset({"pause", "damage"})
    fetch_max_wait_ms = 25

    async def start(self) -> None:
        log = self.directory / "librdkafka.log"
        argv = [sys.executable, "-m", "support.mock_broker"]
        self.child = self.stack.enter_context(
            Child(argv, log=log, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")})
        )

        async def told() -> bool:
            return log.read_text().startswith((HOST, "localhost"))

        await until(told, within_s=20, what="the mock cluster says where it listens")
        self.bootstrap = log.read_text().split()[0]


class Apache(Broker):
    """Apache Kafka, one node, controller and broker in one."""

    name = "apache"
    can = frozenset({"restart", "empty", "keep", "pause", "create", "times", "first", "partitions"})

    @staticmethod
    def why_not() -> str | None:
        return _why_no_kafka_jars()

    async def start(self) -> None:
        if not self.bootstrap:
            self._prepare(*free_ports(2))
        argv = [*self._java(), "kafka.Kafka", str(self.directory / "server.properties")]
        self.child = self.stack.enter_context(Child(argv, log=self.directory / "kafka.log"))
        port = int(self.bootstrap.rpartition(":")[2])
        await until(lambda: self._up(port), within_s=120, what=self.child.last_lines)

    async def restart(self, *, empty: bool) -> None:
        if empty:
            shutil.rmtree(self.directory / "data")
            self._format()
        await self.start()

    async def _up(self, port: int) -> bool:
        assert self.child is not None
        assert self.child.alive, f"Kafka ended:\n{self.child.last_lines()}"
        return await embedded.is_up(port)

    def _prepare(self, port: int, controller: int) -> None:
        self.bootstrap = f"{HOST}:{port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self.directory / "data",
            "offsets.topic.replication.factor": 1,
            "auto.create.topics.enable": "false",
            "num.network.threads": 1,
            "num.io.threads": 2,
            "background.threads": 1,
            "group.coordinator.threads": 1,
            "log.cleaner.threads": 1,
        }
        lines = (f"{key}={value}\n" for key, value in settings.items())
        (self.directory / "server.properties").write_text("".join(lines))
        self._format()

    def _format(self) -> None:
        command = ["kafka.tools.StorageTool", "format", "-t", KAFKA_CLUSTER_ID]
        argv = [*self._java(), *command, "-c", str(self.directory / "server.properties")]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)

    def _java(self) -> list[str]:
        # One small heap and the first compiler stage only: a test broker lives for seconds.
        quick = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        return ["java", *quick, f"-Dkafka.logs.dir={self.directory}", "-cp", f"{KAFKA_JARS}/*"]


class Container(Broker):
    """Kafka in Docker, as testcontainers has it."""

    name = "container"
    can = frozenset({"create", "first", "times"})

    @staticmethod
    def why_not() -> str | None:
        return _why_no_docker()

    async def start(self) -> None:
        from testcontainers.kafka import KafkaContainer

        container = await asyncio.to_thread(self.stack.enter_context, KafkaContainer().with_kraft())
        self.bootstrap = container.get_bootstrap_server()


class Memory(Broker):
    """Our own double."""

    name = "memory"
    can = frozenset({"restart", "empty", "keep", "quick", "pause", "create", "first", "times"})

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        super().__init__(directory, stack)
        self._paused = False
        self._server: MemoryBroker | None = None
        self._topics: dict[str, TopicSpec] = {}

    async def start(self) -> None:
        if self._server is not None:
            self._server.up = True

    async def kill(self) -> None:
        self._memory().up = False

    async def restart(self, *, empty: bool) -> None:
        if empty:
            self._memory().empty()
        self._memory().up = True

    def pause(self) -> None:
        self._memory().hung = True

    def resume(self) -> None:
        self._memory().hung = False

    @asynccontextmanager
    async def bus(self, topics: Sequence[TopicSpec] = (), *, client: str = "test") -> AsyncIterator[Bus]:
        self._memory().add_topics(topics)
        bus = self._memory().bus(client)
        try:
            yield bus
        finally:
            await bus.close()

    def _memory(self) -> MemoryBroker:
        if self._server is None:
            self._server = MemoryBroker("here", clock=SystemClock(), rng=random.Random(1), topics=())
        return self._server


BROKERS: Mapping[str, type[Broker]] = {
    one.name: one for one in (Memory, Tansu, Librdkafka, Apache, Container)
}


@asynccontextmanager
async def running(name: str) -> AsyncIterator[Broker]:
    """A broker of that name, started; everything of it is gone afterwards."""
    with temporary_directory(name) as directory, ExitStack() as stack:
        broker = BROKERS[name](directory, stack)
        await broker.start()
        yield broker


@cache
def _why_no_kafka_jars() -> str | None:
    """Fetches the jars once into the repository's `.cache`."""
    if not shutil.which("java"):
        return "no Java"
    if any(KAFKA_JARS.glob("kafka_2.13-*.jar")):
        return None
    if not shutil.which("mvn"):
        return "no Maven to fetch Kafka with"
    with temporary_directory("kafka-pom") as directory:
        (directory / "pom.xml").write_text(KAFKA_POM)
        target = directory / "jars"
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        argv = ["mvn", "-q", "-B", goal, f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
        try:
            subprocess.run(argv, cwd=directory, check=True, capture_output=True, timeout=300)
        except subprocess.SubprocessError as error:
            return f"Kafka could not be fetched: {error}"
        KAFKA_JARS.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(target, KAFKA_JARS)  # whole or not at all
    return None


@cache
def _why_no_docker() -> str | None:
    if not shutil.which("docker"):
        return "no docker command"
    try:
        shown = subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False)
    except subprocess.SubprocessError:
        return "the Docker daemon does not answer"
    return None if shown.returncode == 0 else "no Docker daemon answers"
