"""What touches the world outside on behalf of all deployables: one module for each outside thing.

Lives here: Kafka (`kafka` and what only it uses: `kafka_connect`, `kafka_consume`, `cursor`), etcd
(`etcd`), OpenTelemetry (`otel`), and the in-memory doubles of the first two (`memory`), which pass the
same contract suites. Adapters translate, bound and recover; they decide nothing. Each third-party
client is imported here and nowhere else.
"""
