"""The built-in drills, one YAML file each, read by `loader`.

Lives here: drills that make sense in most fleets, with the hypothesis that a sound fleet fulfils.
Does not live here: how a drill is run (`ops/drill/`) or judged (`control_plane/core/drills`).
"""
