"""What an edge counts about following and telling. The data path counts for itself, and shows the mode."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The metrics of one edge's following, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"leeward_edge_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"leeward_edge_{name}", text, labels, registry=registry)

        self.generation = gauge("head_generation", "Generation of the head served")
        self.seq = gauge("head_seq", "Sequence number of the head served")
        self.config_version = gauge("config_version", "Version of the configuration served by")
        self.head_age = gauge(
            "head_age_seconds", "Since the head served was applied; a stable one is old and fine"
        )
        self.beat_age = gauge("beat_age_seconds", "Since the last new Beat; NaN before the first")
        self.heard = counter("heard", "Messages taken from each path", "path", "kind")
        self.applied = counter("applied", "Times the table was swapped")
        self.refused = counter("follow_refused", "What was not taken, and why", "what", "reason")
        self.alarms = counter("alarms", "Alarms raised", "code")
        self.resyncs = counter("resyncs", "Times both paths were read again from their beginning")
        self.kept = counter("lkg_writes", "Last-known-good files by what became of them", "result")
        self.acks = counter("acks", "Acknowledgements by path and what became of them", "path", "result")
        self.events = counter("events", "Health events by kind and what became of them", "kind", "result")
        self.stream_connected = gauge(
            "stream_connected", "1 while a control-plane replica's stream is followed"
        )
        self.bus_reachable = gauge("bus_reachable", "1 while the region's bus answers")
        self.bus_lag = gauge("bus_lag_seconds", "Age of the newest Beat when it was read from the bus")
        self.waiting = gauge("heads_waiting", "Heads stated but not complete")
        self.decision_lag = Histogram(
            "leeward_edge_decision_lag_seconds",
            "From a decision to its application here, by the wall clocks of both",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0),
            registry=registry,
        )
