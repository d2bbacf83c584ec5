"""Drills: rehearsed failures with a hypothesis, guard rails, a measurement and a report.

Lives here: the drills themselves, the load they run under, what they watch, and their reports. A
drill sees the fleet as its users do, over public HTTP; only breaking and mending goes through the
local stack. Does not live here: the terminal (`ops.cli.drills`).
"""
