"""All commands in one typer application."""

import typer

from ops.cli import (
    INTERNAL,
    PROCESSES,
    backup,
    config,
    drills,
    foresight,
    overrides,
    reading,
    rollouts,
    stacks,
    tokens,
    top,
    trace,
)


def run() -> int:
    """Parse the command line and run one command; ends with SystemExit, as typer does."""
    build()(prog_name="leeward")
    return 0


def build() -> typer.Typer:
    """The application; a command returns its exit code, or None for 0."""
    app = typer.Typer(
        help="Keeps AI model traffic on the sheltered side of a failure.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        result_callback=_exit_with,
    )
    for group in (stacks, reading, top, foresight, backup, overrides, tokens, trace):
        group.register(app)
    for name, what in PROCESSES.items():
        app.command(name, help=what, context_settings=_UNPARSED, hidden=name in INTERNAL)(_elsewhere)
    app.add_typer(config.build(), name="config", help="Check, compare and change the configuration.")
    app.add_typer(rollouts.build(), name="rollout", help="Let a new target take over by steps, watched.")
    app.add_typer(drills.build(), name="drill", help="Rehearse a failure and measure it.")
    return tokens.present(app)


def _exit_with(code: object) -> None:
    if isinstance(code, int):
        raise typer.Exit(code)


_UNPARSED = {"ignore_unknown_options": True, "allow_extra_args": True}


def _elsewhere() -> None:
    """Listed here for `leeward --help`; `ops.cli.main` sends these to `ops.cli.serve` before typer."""
