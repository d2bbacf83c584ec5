"""What every deployable of Leeward needs, and nothing that only one of them needs.

Lives here: the vocabulary (frozen models and their wire form), outcome classification, clock and
backoff, task supervision, the ports to the bus and to etcd with their adapters, telemetry, and the
health endpoints. Does not live here: any decision about traffic, any HTTP API, anything that knows
whether it runs in a prober, a control plane or an edge. `shared` imports none of its users.
"""
