"""Making and ending aiokafka clients, each within a bound, and the topics they need.

aiokafka's `start()` leaks connections when it is cancelled; `stop()` may wait for a broker that is gone
(aio-libs/aiokafka#1101), and raises CancelledError out of a fetch that was backing off. So both run in
tasks of their own: `start` to its own end, which its request timeout bounds, `stop` for `STOP_S`, and
whoever waits for them may leave.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from shared.log import get_logger
from shared.ports import PortError, Refused, Unavailable
from shared.secrets import SecretError, resolve
from shared.supervise import Supervisor
from shared.tls import client_context
from shared.topics import TopicSpec
from shared.vocabulary.node import BusAddress, Tls

log = get_logger(__name__)

REQUEST_TIMEOUT_S = 3.0
"""One exchange with a broker; also how long aiokafka keeps an unsent message."""
STOP_S = 3.5
METADATA_MAX_AGE_S = 15.0
"""How soon added partitions are seen."""
MAX_MESSAGE_BYTES = 1_048_576
MAX_FETCH_BYTES = 8 * 1024 * 1024

_REFUSALS = (
    errors.AuthenticationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.InvalidTopicError,
    errors.MessageSizeTooLargeError,
    errors.PolicyViolationError,
    errors.RecordListTooLargeError,
    errors.SaslAuthenticationFailed,
    errors.TopicAuthorizationFailedError,
    errors.UnsupportedSaslMechanismError,
)
_NOT_IDEMPOTENT = (
    errors.ClusterAuthorizationFailedError,
    errors.IncompatibleBrokerVersion,
    errors.UnknownError,
    errors.UnsupportedVersionError,
)
"""How brokers answer who asks for a producer id and gets none: too old, too small, or no right to it."""
_ALREADY_EXISTS = errors.TopicAlreadyExistsError.errno


def translate(error: BaseException) -> PortError:
    """What a failure of aiokafka means to a user of the port."""
    said = f"{type(error).__name__}: {error}"
    return Refused(said) if isinstance(error, _REFUSALS) else Unavailable(said)


class Links:
    """The broker connections of one client, watched for breaks.

    aiokafka reconnects silently, and the broker that it finds may have lost its log in between. It
    offers no public way to notice, hence the look at its private table.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._known: dict[tuple[Any, Any], Any] = {}

    def broken(self) -> bool:
        """Whether a connection that was there at the last look has gone or been replaced."""
        before = self._known
        self._known = {key: link for key, link in self._client._conns.items() if key[0] != "bootstrap"}
        broken = [key for key, link in before.items() if self._known.get(key) != link or not link.connected()]
        return bool(broken)


class Connector:
    """Clients of one cluster, as `address` describes it."""

    def __init__(
        self, address: BusAddress, *, client_id: str, topics: Sequence[TopicSpec], supervisor: Supervisor
    ) -> None:
        self._address = address
        self._client_id = client_id
        self._topics = topics
        self._own = supervisor
        self._complained = False
        self._idempotent = address.idempotent
        self._open: dict[Any, asyncio.Task[None] | None] = {}

    async def producer(self) -> AIOKafkaProducer:
        """A started one, acknowledged by all in-sync replicas; idempotent where the broker has it, so
        that its own retries neither double nor reorder messages. Where it has not, they may: every
        message is absolute state with a version of its own. Raises Unavailable, Refused."""
        if self._idempotent:
            producer = self._made_producer(idempotent=True)
            try:
                await self.start(producer)
            except PortError as error:
                if not isinstance(error.__cause__, _NOT_IDEMPOTENT):
                    raise
                self._idempotent = False
                log.info("the broker has no idempotent production: done without", why=str(error))
            else:
                return producer
        producer = self._made_producer(idempotent=False)
        await self.start(producer)
        return producer

    def _made_producer(self, *, idempotent: bool) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._common(),
            acks="all",
            enable_idempotence=idempotent,
            linger_ms=2,
            max_batch_size=65_536,
            max_request_size=MAX_MESSAGE_BYTES,
        )

    def consumer(self) -> AIOKafkaConsumer:
        """Without a group: positions are set by `seek`, and never reset behind our back."""
        wait_ms = self._address.fetch_max_wait_ms
        common = self._common()
        common["request_timeout_ms"] = int(REQUEST_TIMEOUT_S * 1000) + wait_ms
        return AIOKafkaConsumer(
            **common,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=wait_ms,
            fetch_max_bytes=MAX_FETCH_BYTES,
            max_partition_fetch_bytes=2 * MAX_MESSAGE_BYTES,
        )

    async def start(self, client: Any) -> None:
        """Connect; on any failure, and when cancelled, `client` is ended. Raises Unavailable, Refused."""
        starting = self._own.spawn("bus start", _outcome(client.start))
        self._open[client] = None
        try:
            await asyncio.wait([starting])
        except asyncio.CancelledError:
            self._own.spawn("bus abandon", self._abandon(client, starting))
            raise
        error = errors.Cancelled() if starting.cancelled() else starting.result()
        if error is not None:
            await self.stop(client)
            raise translate(error) from error

    async def stop(self, client: Any) -> None:
        """End it within `STOP_S`, whatever the broker does; safe to cancel and to repeat."""
        if client not in self._open:
            return
        ending = self._open[client]
        if ending is None:
            ending = self._open[client] = self._own.spawn("bus stop", self._end(client))
        await asyncio.wait([ending])

    async def close(self) -> None:
        """End every client that is still open, all at once."""
        if self._open:
            await asyncio.gather(*(self.stop(client) for client in list(self._open)))

    async def ensure_topics(self) -> None:
        """Create those of the configured topics that are missing, where that is wanted.

        A broker that will not create them may still create them by itself, or an operator has: only
        said, once. Raises Unavailable when it does not answer.
        """
        if not self._address.create_topics:
            return
        admin = AIOKafkaAdminClient(**self._common())
        await self.start(admin)
        try:
            there = set(await admin.list_topics())
            missing = [topic for topic in self._topics if topic.name not in there]
            if missing:
                await self._create(admin, missing)
        except (errors.KafkaError, OSError, TimeoutError) as error:
            raise translate(error) from error
        finally:
            await self.stop(admin)

    async def _create(self, admin: AIOKafkaAdminClient, missing: Sequence[TopicSpec]) -> None:
        wanted = [NewTopic(t.name, t.partitions, 1, topic_configs=dict(t.config)) for t in missing]
        for topic in wanted:  # NewTopic refuses -1, which brokers take as "your default"
            topic.replication_factor = self._address.replication_factor
        try:
            answer = await admin.create_topics(wanted)
        except (errors.IncompatibleBrokerVersion, errors.BrokerResponseError, AttributeError) as error:
            # AttributeError: aiokafka meets a cluster that names no controller, as small brokers do.
            self._complain(missing[0].name, repr(error))
            return
        for name, code, *_ in answer.topic_errors:
            if code not in (0, _ALREADY_EXISTS):
                self._complain(name, errors.for_code(code).__name__)

    def _complain(self, topic: str, reason: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("cannot create topics, create them by hand", topic=topic, reason=reason)

    async def _abandon(self, client: Any, starting: "asyncio.Task[Any]") -> None:
        await asyncio.wait([starting])
        await self.stop(client)

    async def _end(self, client: Any) -> None:
        """The whole client, and when that fails, its connections."""
        whole: Callable[[], Awaitable[None]] = getattr(client, "stop", None) or client.close
        core = getattr(client, "client", None) or client._client
        try:
            for end, within_s in ((whole, STOP_S), (core.close, STOP_S / 4)):
                ending = self._own.spawn("bus end", _outcome(end))
                await asyncio.wait([ending], timeout=within_s)
                if ending.done() and not ending.cancelled():
                    return
                ending.cancel()
                if isinstance(client, AIOKafkaProducer):
                    await _abandon_batches(client)
            log.warning("bus client did not end in time, left behind", client=type(client).__name__)
        finally:
            self._open.pop(client, None)

    def _common(self) -> dict[str, Any]:
        """Secrets are read anew for each client, so that a rotated one is taken up."""
        address = self._address
        options: dict[str, Any] = {
            "bootstrap_servers": list(address.bootstrap),
            "client_id": self._client_id,
            "request_timeout_ms": int(REQUEST_TIMEOUT_S * 1000),
            "metadata_max_age_ms": int(METADATA_MAX_AGE_S * 1000),
            "retry_backoff_ms": 100,
            "security_protocol": security_protocol(address),
        }
        if address.tls is not None:
            options["ssl_context"] = _tls_context(address.tls)
        if address.sasl is not None:
            try:
                password = resolve(address.sasl.password)
            except SecretError as error:
                raise Refused(str(error)) from error
            options |= {
                "sasl_mechanism": address.sasl.mechanism,
                "sasl_plain_username": address.sasl.username,
                "sasl_plain_password": password,
            }
        return options


def security_protocol(address: BusAddress) -> str:
    """Kafka's name for the combination of TLS and SASL that `address` asks for."""
    transport = "PLAINTEXT" if address.tls is None else "SSL"
    return transport if address.sasl is None else f"SASL_{transport}"


class LastWords(logging.Handler):
    """aiokafka logs an error for every attempt to reach a dead broker, and raises less than it knows.
    This keeps what it said last, for the one line that we write ourselves, and nothing else."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember `record`."""
        self.said = record.getMessage()[:300]


def listen_to_aiokafka() -> LastWords:
    """Take aiokafka's log over, once per process."""
    logger = logging.getLogger("aiokafka")
    for handler in logger.handlers:
        if isinstance(handler, LastWords):
            return handler
    handler = LastWords(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    return handler


async def _abandon_batches(producer: AIOKafkaProducer) -> None:
    """End what an idempotent producer would go on with for ever while its broker is silent: it never
    gives a batch up (aio-libs/aiokafka#1101), and has no public way to be told to."""
    producer._message_accumulator.fail_all(errors.KafkaConnectionError("the producer was ended"))
    sender = producer._sender.sender_task
    for _ in range(2):  # the first cancels its loop, the second the request that it then waits for
        if sender is not None and not sender.done():
            sender.cancel()
            await asyncio.wait([sender], timeout=0.1)


async def _outcome(action: Callable[[], Awaitable[None]]) -> Exception | None:
    try:
        await action()
    except (errors.KafkaError, OSError, TimeoutError, ValueError) as error:
        return error
    return None


def _tls_context(tls: Tls) -> ssl.SSLContext:
    try:
        return client_context(tls)
    except OSError as error:
        raise Refused(f"TLS files of the bus cannot be used: {error}") from error
