"""The edge: the data plane in every region. Follows decisions, takes requests, chooses, sends, fails over.

Lives here: reading HTTP strictly, letting clients in, choosing a target, attempts and their limits, handing answers
on without making them look better than they are, local ejection, passive health windows, following the control plane
by two paths, last-known-good files. Does not live here: deciding who takes part and with what weight (control plane),
probing (prober). A request touches only memory: no await on Kafka, etcd or the control plane is in its path.
"""
