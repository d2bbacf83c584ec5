"""What the edge decides, without touching anything: no I/O, no clock, no randomness, no logging.

`wire`, `endpoints`, `body`, `reception`: what a request is and whether it may come in. `table`, `choose`, `admission`,
`attempts`: where it goes, and whether it may move. `sse`, `relay`, `answers`: what its client gets. `window`: what is
told of it. `follow`, `holdings`: which decision is in force.
"""
