"""What an operator runs: the `leeward` command, the local stack, the model simulator, and drills.

Lives here: everything that starts processes, talks to a terminal, breaks things on purpose, or reads
other processes' public HTTP. Does not live here: anything a deployable needs while it serves; `ops`
imports the deployables, and none of them imports `ops`.
"""
