"""Where the edge touches the outside: clients (`listener`), targets (`upstream`), and one request between them
(`exchange`, and `delivery` of its answer), joined by `gateway`; `figures` and `tracing` tell of it; `stream` and
`store` are the follower's.
"""
