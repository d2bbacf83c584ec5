"""What a prober decides: when to probe, what a run of outcomes means, what fits into one event, what an answer is worth.

No I/O, no clock, no randomness of its own, no logging: `now` and random draws are arguments.
"""
