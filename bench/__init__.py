"""Measurements against peers, on this machine, in one run. Figures move between machines; ratios are what counts."""
