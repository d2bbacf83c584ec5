"""Replay: health events of the past, decided by another configuration, beside what happened.

Lives here: the recording (its file, and how it is gathered from buses and control plane), what was
true according to it, and the figures of each course. Does not live here: concluding and deciding
(`control_plane.core`, which is called and not imitated), nor the terminal (`ops.cli.foresight`).
"""
