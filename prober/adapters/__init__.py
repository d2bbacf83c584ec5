"""One outside thing each: HTTP targets, TCP ports, and the secrets that probes carry. They report facts and decide nothing."""
