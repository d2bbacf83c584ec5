"""The prober: it watches model endpoints from one region and says what it sees.

Lives here: when to probe, how to ask, what a run of outcomes means, and telling it on the region's own
bus as absolute state. Does not live here: any conclusion drawn from more than one prober, any decision
about traffic, any sight of live requests. It keeps nothing but its boot number.
"""
