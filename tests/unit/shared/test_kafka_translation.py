"""How a bus address and aiokafka's errors are put into other words."""

import pytest
from aiokafka import errors

from shared.adapters.kafka_connect import security_protocol, translate
from shared.ports import Refused, Unavailable
from shared.vocabulary.node import BusAddress


@pytest.mark.parametrize(
    ("tls", "sasl", "protocol"),
    [
        (None, None, "PLAINTEXT"),
        ({}, None, "SSL"),
        (None, {"username": "u", "password": "env:P"}, "SASL_PLAINTEXT"),
        ({}, {"username": "u", "password": "env:P"}, "SASL_SSL"),
    ],
)
def test_tls_and_sasl_make_the_protocol(tls: object, sasl: object, protocol: str) -> None:
    """Each combination has its own name in Kafka."""
    address = BusAddress.model_validate({"bootstrap": ("kafka:9092",), "tls": tls, "sasl": sasl})
    assert security_protocol(address) == protocol


@pytest.mark.parametrize(
    "error", [errors.MessageSizeTooLargeError("big"), errors.TopicAuthorizationFailedError("t")]
)
def test_what_will_stay_no_is_a_refusal(error: Exception) -> None:
    """Size and rights do not change by asking again."""
    assert isinstance(translate(error), Refused)


@pytest.mark.parametrize("error", [errors.KafkaConnectionError("x"), OSError("x"), TimeoutError()])
def test_everything_else_may_pass(error: Exception) -> None:
    """The connection, the deadline, the machine."""
    assert isinstance(translate(error), Unavailable)
