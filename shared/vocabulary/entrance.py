"""What an edge lets clients take, and how it speaks TLS to them and to targets: `node.limits`, `listen_tls`, `target_tls`."""

from typing import Annotated

from pydantic import Field

from shared.vocabulary.base import ConfigModel

_Seconds = Annotated[float, Field(ge=0.05, le=3600, allow_inf_nan=False)]
_Rate = Annotated[float, Field(ge=1, le=1e9, allow_inf_nan=False)]
KIB = 1024
MIB = 1024 * 1024


class EdgeLimits(ConfigModel):
    """Of one edge process."""

    connections: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Of clients, at once; the next one is told 503 and closed."""
    head_bytes: Annotated[int, Field(ge=1 * KIB, le=64 * KIB)] = 64 * KIB
    """Request line and header fields; more is 431."""
    fields: Annotated[int, Field(ge=8, le=128)] = 128
    """Header fields of a request; more is 431."""
    body_bytes: Annotated[int, Field(ge=1 * KIB, le=1024 * MIB)] = 32 * MIB
    """Of one request; more is 413."""
    reserved_bytes: Annotated[int, Field(ge=1 * MIB, le=1024 * 1024 * MIB)] = 1024 * MIB
    """Of all bodies that are under way and did not come in one piece; what does not fit is told 503."""
    head_s: _Seconds = 10.0
    """From the beginning of a connection or of a head to the head's end; then 408."""
    idle_s: _Seconds = 75.0
    """Between two requests on one connection, which is then closed."""
    body_s: _Seconds = 30.0
    body_bytes_per_s: _Rate = 64 * KIB
    """A body may take `body_s` and as long again as what has come takes at this rate; then 408."""
    write_stall_s: _Seconds = 60.0
    write_bytes_per_s: _Rate = 1 * KIB
    """A client that has an answer waiting and over `write_stall_s` takes less than this of it is given up."""


class ListenTls(ConfigModel):
    """Server side of TLS towards clients; 1.2 or newer. Read again when a file changes."""

    cert_file: str
    """PEM, with the chain."""
    key_file: str
    client_ca_file: str | None = None
    """Where clients must show a certificate: who may have issued it. Read at the start only."""


class TargetTls(ConfigModel):
    """Client side of TLS towards targets. Certificates are always verified, against the target's host."""

    ca_file: str
    """PEM: who may have issued targets' certificates, besides the system's own roots."""
