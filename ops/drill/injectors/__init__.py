"""What puts a drill's faults in place: one injector for each `by` of a fault.

Lives here: how a fault is said to the keeper, a simulator's panel, an edge's fault filter or the control
plane. Does not live here: which faults, where and when (`ops.drill`), and who undoes them in time (they).
"""
