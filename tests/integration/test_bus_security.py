"""Kafka behind TLS, with SASL/SCRAM: one real Apache Kafka, with a certificate made for it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from shared.adapters.kafka import KafkaBus
from shared.clock import SystemClock
from shared.ports import Unavailable
from shared.topics import TopicSpec
from shared.vocabulary.node import BusAddress
from tests.support.brokers import KAFKA_CLUSTER_ID, Apache
from tests.support.processes import HOST, temporary_directory
from tests.support.processes import until as eventually

pytestmark = [pytest.mark.kafka_apache, pytest.mark.timeout(180)]

TOPIC = TopicSpec("secured", 1, {})
PASSWORD = "correct horse"
STORE_PASSWORD = "only-for-tests"


class SecureApache(Apache):
    """Takes clients only by TLS and SCRAM-SHA-512; itself listens to itself in the clear."""

    name: ClassVar[str] = "secure apache"

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    def address(self, *, tls: bool = True, **sasl: object) -> BusAddress:
        """`sasl` replaces parts of the right credentials."""
        credentials = {
            "mechanism": "SCRAM-SHA-512",
            "username": "leeward",
            "password": f"file:{self.directory}/password",
        }
        return BusAddress.model_validate(
            {
                "bootstrap": [self.bootstrap],
                "replication_factor": 1,
                "sasl": credentials | sasl,
                **({"tls": {"ca_file": str(self.certificate)}} if tls else {}),
            }
        )

    def _prepare(self, port: int, controller: int) -> None:
        (self.directory / "password").write_text(f"{PASSWORD}\n")
        store = self.directory / "store.p12"
        key = ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-alias", "one"]
        for words in (
            ["-genkeypair", *key, "-keyalg", "RSA", "-dname", "CN=kafka", "-ext", f"SAN=ip:{HOST}"],
            ["-exportcert", *key, "-rfc", "-file", str(self.certificate)],
        ):
            subprocess.run(["keytool", *words], check=True, capture_output=True, timeout=60)
        super()._prepare(port, controller)
        settings = {
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,CLIENTS:SASL_SSL",
            "listeners": f"CLIENTS://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"CLIENTS://{HOST}:{port}",
            "inter.broker.listener.name": "CLIENTS",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": (
                "org.apache.kafka.common.security.plain.PlainLoginModule required "
                'username="broker" password="broker" user_broker="broker";'
            ),
            "listener.name.clients.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "ssl.keystore.location": store,
            "ssl.keystore.password": STORE_PASSWORD,
            "ssl.keystore.type": "PKCS12",
            "ssl.truststore.location": self.certificate,
            "ssl.truststore.type": "PEM",
        }
        with (self.directory / "server.properties").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())

    def _format(self) -> None:
        user = f"SCRAM-SHA-512=[name=leeward,password={PASSWORD}]"
        command = ["kafka.tools.StorageTool", "format", "-t", KAFKA_CLUSTER_ID, "--add-scram", user]
        argv = [*self._java(), *command, "-c", str(self.directory / "server.properties")]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)

    async def _up(self, port: int) -> bool:
        """It speaks only to those it knows: whether it takes a message."""
        assert self.child is not None
        assert self.child.alive, f"Kafka ended:\n{self.child.last_lines()}"
        await asyncio.sleep(0.25)
        async with bus_to(self.address()) as bus:
            try:
                await bus.publish(TOPIC.name, key=b"k", value=b"up", timeout_s=3.0)
            except Unavailable:
                return False
        return True


@asynccontextmanager
async def bus_to(address: BusAddress) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus("here", address, client_id="test", clock=SystemClock(), topics=[TOPIC])
    try:
        yield bus
    finally:
        await bus.close()


async def test_tls_and_scram() -> None:
    """Right credentials write and read; wrong ones get nowhere, nor does a client without TLS, or one that
    trusts another authority than the broker's. A rotated password is read anew, without a restart. What is
    written carries a producer's id: production is idempotent."""
    from contextlib import ExitStack

    if reason := SecureApache.why_not():
        pytest.skip(reason)
    with temporary_directory("kafka-tls") as directory, ExitStack() as stack:
        broker = SecureApache(directory, stack)
        await broker.start()
        async with bus_to(broker.address()) as bus:
            await bus.publish(TOPIC.name, key=b"k", value=b"secret", timeout_s=10.0)
            batches = bus.consume([TOPIC.name], start="beginning", idle_s=0.2)
            values: list[bytes | None] = []
            async with asyncio.timeout(20):
                while b"secret" not in values:
                    values += [record.value for record in (await anext(batches)).records]
            await batches.aclose()

        async with bus_to(broker.address(username="mallory")) as stranger:
            with pytest.raises(Unavailable):
                await stranger.publish(TOPIC.name, key=b"k", value=b"v", timeout_s=10.0)
        async with bus_to(broker.address(tls=False)) as naked:
            with pytest.raises(Unavailable):
                await naked.publish(TOPIC.name, key=b"k", value=b"v", timeout_s=2.0)
        other = directory / "other.pem"
        other.write_text((directory / "ca.pem").read_text())
        await _other_authority(directory, other)
        trusting = broker.address().model_copy(
            update={"tls": broker.address().tls.model_copy(update={"ca_file": str(other)})}  # type: ignore[union-attr]
        )
        async with bus_to(trusting) as misled:
            with pytest.raises(Unavailable):
                await misled.publish(TOPIC.name, key=b"k", value=b"v", timeout_s=2.0)

        password = directory / "password"
        password.write_text("wrong\n")
        async with bus_to(broker.address()) as bus:
            with pytest.raises(Unavailable):
                await bus.publish(TOPIC.name, key=b"k", value=b"v", timeout_s=10.0)
            password.write_text(f"{PASSWORD}\n")

            async def written() -> bool:
                try:
                    await bus.publish(TOPIC.name, key=b"k", value=b"rotated", timeout_s=3.0)
                except Unavailable:
                    return False
                return True

            await eventually(written, within_s=20, what="the rotated password is taken up")
        assert await _producer_ids(broker) != {-1}


async def _other_authority(directory: Path, certificate: Path) -> None:
    certificate.unlink()
    key = ["-keystore", str(directory / "other.p12"), "-storetype", "PKCS12", "-storepass", STORE_PASSWORD]
    for words in (
        ["-genkeypair", *key, "-alias", "other", "-keyalg", "RSA", "-dname", "CN=other"],
        ["-exportcert", *key, "-alias", "other", "-rfc", "-file", str(certificate)],
    ):
        await asyncio.to_thread(subprocess.run, ["keytool", *words], check=True, capture_output=True)


async def _producer_ids(broker: SecureApache) -> set[int]:
    """Of the batches in the topic's log, by Kafka's own tool."""
    segments = sorted((broker.directory / "data").glob(f"{TOPIC.name}-0/*.log"))
    tool = ["kafka.tools.DumpLogSegments", "--files", ",".join(map(str, segments))]
    shown = await asyncio.to_thread(
        subprocess.run, [*broker._java(), *tool], check=True, capture_output=True, timeout=60
    )
    words = shown.stdout.decode().split()
    return {int(words[at + 1]) for at, word in enumerate(words) if word == "producerId:"}
