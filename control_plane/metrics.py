"""The metrics of a control-plane replica, in a registry of its own so that several can share a process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Pre-declared and named once; loops increment, `/metrics` renders."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"leeward_control_plane_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"leeward_control_plane_{name}", text, labels, registry=self.registry)

        self.is_leader = gauge("is_leader", "1 while this replica leads, by its own deadline.")
        self.epoch = gauge("epoch", "Epoch of the last term this replica held.")
        self.terms = counter("terms_total", "Terms this replica began.")
        self.decisions = counter("decisions_total", "Heads this replica committed.")
        self.refusals = counter("refusals_total", "Proposals that failed the safety checks.")
        self.fenced = counter("fenced_total", "Writes that etcd refused because another leads.")
        self.conflicts = counter("conflicts_total", "Commits based on records that had changed.")
        self.read_backs = counter("read_backs_total", "Commits whose reply was lost.", "found")
        self.generation = gauge("generation", "Generation of the head in force.")
        self.seq = gauge("seq", "Sequence number of the head in force.")
        self.commit_seconds = Histogram(
            "leeward_control_plane_commit_seconds",
            "From the proposal to etcd's answer.",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
            registry=self.registry,
        )
        self.decide_seconds = Histogram(
            "leeward_control_plane_decide_seconds",
            "One conclusion and decision.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
            registry=self.registry,
        )
        self.events = counter("events_total", "Messages taken from the buses.", "bus", "kind")
        self.dlq = counter("dlq_total", "Messages refused, by reason.", "reason")
        self.gaps = counter("bus_gaps_total", "Times a bus had lost messages before they were read.", "bus")
        self.bus_reachable = gauge("bus_reachable", "1 while the bus answers.", "bus")
        self.published = counter("published_total", "Messages written to the buses.", "bus", "topic")
        self.publish_failures = counter("publish_failures_total", "Messages a bus did not take.", "bus")
        self.targets = gauge("targets", "Targets by global verdict.", "verdict")
        self.etcd_synced = gauge("etcd_synced", "1 while the mirror of etcd follows its changes.")
        self.etcd_reachable = gauge("etcd_reachable", "1 while etcd answers with a quorum.")
        self.etcd_alarms = gauge("etcd_alarms", "Alarms etcd has raised, such as NOSPACE.")
        self.relists = counter("relists_total", "Times the mirror read etcd anew.", "reason")
        self.collected = counter("collected_total", "Keys removed from etcd.", "what")
        self.stream_readers = gauge("stream_readers", "Readers of /v1/stream.")
        self.loop_lag = gauge("loop_lag_seconds", "How late the event loop woke, last second's worst.")

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
