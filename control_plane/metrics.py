"""The metrics of a control-plane replica, in a registry of its own so that several can share a process."""

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from shared.metrics import new_registry


class Metrics:
    """Pre-declared and named once; loops increment, `/metrics` renders."""

    def __init__(self) -> None:
        self.registry = new_registry()
        gauge, counter = self._gauge, self._counter

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
        self._of_the_fleet()

    def _of_the_fleet(self) -> None:
        """What is read off, folded and told."""
        gauge, counter = self._gauge, self._counter
        self.reasons = counter("decision_reasons_total", "Reasons of the heads committed, by code.", "code")
        self.probe_states = counter("probe_states_total", "Probe states folded: what probers told, one each.")
        self.bus_lag = gauge("bus_lag_seconds", "Age of the newest message when it was read.", "bus")
        self.bus_caught_up = gauge("bus_caught_up", "1 while a bus has been read to its end.", "bus")
        self.queue = gauge("queue_length", "What waits to be sent, by queue.", "queue")
        self.leader_known = gauge(
            "leader_known", "1 while etcd names a leader, as far as this replica knows."
        )
        self.beat_age = gauge(
            "beat_age_seconds", "Since a leader's Beat was seen in etcd; NaN before the first."
        )
        self.head_age = gauge(
            "head_age_seconds", "Since the head in force was committed; NaN before the first."
        )
        self.edges = gauge("edges", "Edges by mode; SILENT have not been heard lately.", "mode")
        self.edges_behind = gauge(
            "edges_behind", "Edges heard of that serve an older head than the one in force."
        )
        self.sources = gauge(
            "sources", "Probers, edges and replicas by whether they are heard.", "role", "state"
        )
        self.region_probers = gauge("region_probers", "Probers of a region that are heard.", "region")
        self.region_verdict = gauge("region_verdict", "1 for a region's verdict.", "region", "verdict")
        self.freezes = gauge("freezes", "Freezes of automatic removals, by cause.", "cause")
        self.overrides = gauge("overrides", "Overrides in force, by kind.", "kind")
        self.rollouts_running = gauge("rollouts_running", "Rollouts under way.")
        self.drills = gauge("drills", "Drills on record, by state.", "state")
        self.shed = gauge(
            "shed_permille", "Of a region's requests for a route that are turned away.", "route", "region"
        )
        self.alarms = gauge("alarms", "Alarms that stand, by event; 0 on replicas that do not lead.", "event")
        self.notices = counter(
            "notices_total", "Notices by webhook and what became of them.", "webhook", "result"
        )
        self.notice_seconds = Histogram(
            "leeward_control_plane_notice_seconds",
            "From the change to the receiver's yes.",
            buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0),
            registry=self.registry,
        )

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"leeward_control_plane_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"leeward_control_plane_{name}", text, labels, registry=self.registry)
