"""Runs librdkafka's mock cluster and says where it listens: `python -m support.mock_broker`."""

import signal

from confluent_kafka import Producer


def main() -> None:
    """Print `host:port`, then serve until killed."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "unused:1", "log_level": 0})
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    print(f"{broker.host}:{broker.port}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
