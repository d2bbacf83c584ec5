"""The client side of TLS, from the files that a node file names."""

import ssl

from shared.vocabulary.node import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """Trusts `ca_file`, or the system's roots; shows `cert_file` where there is one. Raises OSError, of
    which `ssl.SSLError` is one, where a file cannot be used."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context
