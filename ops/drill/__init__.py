"""Drills: rehearsed failures with a hypothesis, guard rails, a measurement and a report.

    catalogue, ground, scope   which drill, on which fleet, whom it concerns
    runner                     one drill from beginning to end; `course` is where it stands
    faults, injectors          what is broken, and how that is undone whatever happens
    load, traffic, tally       what clients feel
    sight, plans, signs        what the fleet shows; measure waits for it, guard stops at it
    judge, record              what it came to; html, plots, junit show it
    conduct, agent             who has it run: the command line, or whoever asked for it

A drill sees the fleet as its users do, over public HTTP; only breaking and mending a local stack goes
through its keeper. Does not live here: the terminal (`ops.cli.drills`), the record of drills and who
may begin one (`control_plane`).
"""
