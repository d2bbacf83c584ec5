"""`leeward simulator`: its options. With argparse, for typer alone takes longer to import than all the rest."""

import argparse
from collections.abc import Sequence

from ops.errors import Bad
from ops.simulator.app import run
from ops.simulator.identity import identity_of
from shared import log


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; returns 0 after that. Raises Bad when it cannot listen."""
    import uvloop

    chosen = parser().parse_args(arguments)
    named = identity_of(chosen.id)
    region = chosen.region or named.region
    host, port = chosen.listen
    admin_host, admin_port = chosen.admin_listen
    log.configure(role="simulator", node=chosen.id, region=region)
    try:
        uvloop.run(
            run(
                id=chosen.id,
                region=region,
                provider=chosen.provider or named.provider,
                model=chosen.model or named.model,
                host=host,
                port=port,
                admin_host=admin_host,
                admin_port=admin_port,
                ttft_ms=chosen.ttft_ms,
                tokens_per_s=chosen.tokens_per_s,
            )
        )
    except OSError as error:
        raise Bad(f"{chosen.id} cannot start: {error}") from None
    return 0


def parser() -> argparse.ArgumentParser:
    """The options; what is not given follows from `--id PROVIDER-REGION`."""
    options = argparse.ArgumentParser(
        prog="leeward simulator", description="A model endpoint that can be told to fail."
    )
    options.add_argument("--id", default="alpha-us-east", help="name of the target (default: %(default)s)")
    options.add_argument("--region", help="default: the id's end")
    options.add_argument("--provider", help="default: the id's beginning")
    options.add_argument("--model", help="the one model it serves (default: the provider's)")
    options.add_argument("--listen", type=_address, default=("127.0.0.1", 7600), metavar="HOST:PORT")
    options.add_argument(
        "--admin-listen",
        type=_address,
        default=("127.0.0.1", 7700),
        metavar="HOST:PORT",
        help="the fault panel; keep it on loopback, it asks nobody for a password",
    )
    options.add_argument(
        "--ttft-ms", type=float, default=20.0, help="to the first token (default: %(default)s)"
    )
    options.add_argument(
        "--tokens-per-s", type=float, default=200.0, help="0: as fast as it can (default: %(default)s)"
    )
    return options


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
