"""What the control plane thinks: from health events to a view, from a view to decisions.

Lives here: folding events (`fold`), concluding verdicts (`conclude`, with `votes`, `passive`,
`contrarian`), deciding weights (`decide`, with `standing`, `soften`, `weights`, `last_resort`,
`wording`), and checking a decision before it is committed (`inspect`, written apart from `decide`).
`roster` holds what follows from the configuration alone.

Does not live here: clocks, randomness, logging, I/O. Time comes in as `now` (UTC, for what is
written down and outlives a term) and `monotonic` (for ages). Equal arguments give equal results.
"""
