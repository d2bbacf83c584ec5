"""TLS on both sides of an edge: the certificate it shows to clients, kept as new as its files, and whom it trusts.

A renewed certificate is first read into a context of its own, and only when that works into the one that serves:
a half-written pair changes nothing and is tried again. Connections that are open keep what they began with.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Final

from shared.log import get_logger
from shared.vocabulary.entrance import ListenTls, TargetTls
from shared.vocabulary.node import Node

log = get_logger(__name__)

LOOK_S: Final = 2.0
"""Between two looks at the files."""


class ServedCertificate:
    """What clients are shown. Raises OSError, naming the field and the files, where it cannot be read."""

    def __init__(self, tls: ListenTls) -> None:
        self._tls = tls
        self._seen = self._marks()
        self.context = _server_context(tls)
        self.renewed = 0
        """Times it was read again."""

    async def run(self) -> None:
        """Follow the files, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Read the files again if they have changed."""
        marks = self._marks()
        if marks == self._seen or marks is None:
            return
        try:
            _server_context(self._tls)
            self.context.load_cert_chain(self._tls.cert_file, self._tls.key_file)
        except OSError as error:
            if self._seen is not None:
                log.warning("new certificate cannot be used, the old one stays", error=str(error))
            self._seen = None  # told once, tried at every look
            return
        self._seen = marks
        self.renewed += 1
        log.info("certificate renewed", cert_file=self._tls.cert_file)

    def _marks(self) -> tuple[tuple[int, int, int], ...] | None:
        """What tells one state of the files from another; None while one is missing."""
        try:
            stats = [Path(name).stat() for name in (self._tls.cert_file, self._tls.key_file)]
        except OSError:
            return None
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in stats)


def both_sides(node: Node) -> tuple[ServedCertificate | None, ssl.SSLContext | None]:
    """What clients are shown and whom targets must be trusted by, where the node file says. Raises OSError."""
    return (
        None if node.listen_tls is None else ServedCertificate(node.listen_tls),
        None if node.target_tls is None else towards_targets(node.target_tls),
    )


def towards_targets(tls: TargetTls | None) -> ssl.SSLContext:
    """For connections to targets: verified against their host, by the system's roots and those of `tls`. Raises
    OSError, naming the field and the file."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not None:
        try:
            context.load_verify_locations(cafile=tls.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise OSError(
                error.errno, f"node.target_tls.ca_file, {tls.ca_file}: {error.strerror or error}"
            ) from error
    return context


def _server_context(tls: ListenTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:
        raise OSError(
            error.errno,
            f"node.listen_tls, cert_file {tls.cert_file} and key_file {tls.key_file}: {error.strerror or error}",
        ) from error
    if tls.client_ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cafile=tls.client_ca_file)
        except OSError as error:
            raise OSError(
                error.errno,
                f"node.listen_tls.client_ca_file, {tls.client_ca_file}: {error.strerror or error}",
            ) from error
    return context
