"""The words of Leeward as frozen models, and their form on the wire (contract: `docs/schemas/`).

One module per word family: `config` and `node` (what operators write), `health` (what vantages
know), `view` (what the control plane concludes), `decision` (what edges follow), `status` (what the
CLI prints). No I/O, no clock, no defaults that depend on the machine.
"""
