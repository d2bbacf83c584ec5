"""What an edge answers when no target does: pure, and in memory alone.

`call` reads a request for it, `directives` what its Cache-Control allows, `store` keeps answers, `rules` finds
written ones, `shapes` and `streams` put a text into each dialect's form, `assemble` makes one answer of a stream,
`plan` is all that a route has opted into. `promised` holds answers against the JSON they were asked for, `watch` sees
them whole.
"""
