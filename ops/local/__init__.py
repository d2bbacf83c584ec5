"""The local stack: several regions as real processes on one machine, for trying out, tests and drills.

Lives here: how each process is started, on which ports, with which generated node files, and how it
is known to be up. Does not live here: anything the processes do; they are the same commands that run
singly on other hosts.
"""
