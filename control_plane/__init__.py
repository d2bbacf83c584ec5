"""The control plane: N equal replicas that fold events into one health view; one of them decides.

Lives here: the fold and its conclusions, the decision rules (`core/`), leadership, the fenced commit,
the fan-out to buses and streams, and the HTTP API. Does not live here: probing (prober), serving
traffic (edge_router), or any policy about a single request. Every replica answers reads and streams;
only the leader writes, and only etcd's transaction decides who that is.
"""
