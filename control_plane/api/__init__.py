"""The HTTP API of a replica (contract: DESIGN, Contracts). Reads through `control_plane.ports.Answers`
alone, so that it neither knows the loops nor holds state of its own."""
