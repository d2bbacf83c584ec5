"""The three paces of a prober: `observe` runs due probes, `publish` tells what is known, `follow` learns the fleet."""
