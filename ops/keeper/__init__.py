"""The keeper: one process beside every local stack, for what must outlive a command.

Lives here: the stack's faults, each with a time to live after which the keeper undoes it, and the
process that hosts them. Does not live here: what a drill does and when (`ops.drill`), and how
processes are started and recorded (`ops.local`).
"""
