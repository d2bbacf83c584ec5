"""The command line: what it takes, what it says, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from ops.cli import PROCESSES
from ops.cli.app import build
from ops.cli.failures import reported
from ops.errors import Bad, OpsError, Unreachable, Usage
from shared.config_file import ConfigError

COMMANDS = (
    "up down status health decisions explain plan record replay kill start config drill prober control-plane edge simulator "
    "drain undrain pin weights freeze unfreeze overrides audit trace top"
)


def leeward(*arguments: str) -> Result:
    return CliRunner().invoke(build(), arguments)


def test_every_command_of_the_contract_is_listed() -> None:
    """`leeward --help` names them all."""
    listed = leeward("--help").stdout
    for command in COMMANDS.split():
        assert f"  {command} " in listed


@pytest.mark.parametrize("command", ["up", "kill", "start", "status", "explain", "drill run", "config show"])
def test_every_command_explains_itself(command: str) -> None:
    """`--help` everywhere, exit code 0."""
    done = leeward(*command.split(), "--help")
    assert done.exit_code == 0
    assert "--state-dir" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["kill"], ["status", "--nonsense"], ["status", "-o", "xml"], ["drill", "run"]]
)
def test_wrong_usage_is_two(arguments: list[str]) -> None:
    """A mistake on the command line is exit code 2."""
    assert leeward(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Bad("b"), 1),
        (Usage("u"), 2),
        (Unreachable("n"), 3),
        (ConfigError(["file:1: a: is wrong", "file:2: b: too"]), 2),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_expected_failures_have_no_traceback(
    failure: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message on stderr, nothing on stdout, and the contract's exit code."""

    def command() -> int:
        raise failure

    assert reported(command) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    if isinstance(failure, ConfigError):
        assert shown.err.splitlines() == list(failure.problems)
    elif isinstance(failure, OpsError):
        assert str(failure) in shown.err


def test_a_bug_is_not_hidden() -> None:
    """Anything unexpected keeps its traceback."""

    def command() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reported(command)


def test_drills_are_listed_in_every_format() -> None:
    """The same content as table, JSON and YAML."""
    assert "region-outage" in leeward("drill", "list").stdout
    as_json = json.loads(leeward("drill", "list", "-o", "json").stdout)
    assert as_json == yaml.safe_load(leeward("drill", "list", "-o", "yaml").stdout)
    assert "region-outage" in {each["drill"] for each in as_json}


def test_a_faulty_file_has_a_line_per_fault(tmp_path: Path) -> None:
    """`config validate` exits with 1 and names file, line and field; a good file is said to be good."""
    file = tmp_path / "leeward.yaml"
    file.write_text("fleet:\n  regions: [{id: home}, {id: home}]\n  targets: []\n  routes: []\n")
    done = leeward("config", "validate", str(file))
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{file}:") for line in lines)
    file.write_text(
        "fleet:\n  regions: [{id: home}]\n"
        "  targets: [{id: t, provider: p, model: m, region: home, url: 'http://127.0.0.1:1/v1'}]\n"
        "  routes: [{id: r, match: {models: [m]}, tiers: [{targets: [t]}]}]\n"
    )
    done = leeward("config", "validate", str(file))
    assert (done.exit_code, done.stdout) == (0, f"{file}: good\n")


def test_the_schema_is_a_json_schema() -> None:
    """`config schema` prints what editors can use."""
    schema = json.loads(leeward("config", "schema").stdout)
    assert {"node", "fleet"} <= set(schema["properties"])


def test_processes_do_not_import_the_terminal() -> None:
    """`leeward edge` and its like reach their own arguments without typer and httpx2: fifteen of
    them start at once."""
    program = (
        "import sys; sys.argv = ['leeward', 'edge', '--config', '/nonexistent']\n"
        "from ops.cli import main\n"
        "code = main()\n"
        "print(code, sorted({'typer', 'httpx2', 'fastapi'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "2 []"
    assert "/nonexistent" in done.stderr


@pytest.mark.parametrize("command", PROCESSES)
def test_processes_explain_themselves(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Their `--help` comes from their own parsers."""
    from ops.cli.serve import serve

    with pytest.raises(SystemExit) as end:
        serve([command, "--help"])
    assert end.value.code == 0
    assert f"leeward {command}" in capsys.readouterr().out


@pytest.mark.parametrize("number", ["0", "65", "-1"])
def test_a_number_of_workers_out_of_bounds_is_refused(number: str, tmp_path: Path) -> None:
    """Before anything is started."""
    from ops.cli.serve import serve

    file = tmp_path / "leeward.yaml"
    file.write_text(
        "node: {role: edge, id: e, region: home, state_dir: /x, listen: '127.0.0.1:1', buses: {home: 'h:1'}}\n"
    )
    with pytest.raises(Usage, match="--workers takes 1 to 64"):
        serve(["edge", "--config", str(file), "--workers", number])


def test_a_file_for_another_role_is_refused(tmp_path: Path) -> None:
    """`leeward edge` does not run a prober's file."""
    from ops.cli.serve import run_node
    from shared.vocabulary.terms import Role

    file = tmp_path / "leeward.yaml"
    file.write_text("node: {role: prober, id: p, region: home, state_dir: /x, buses: {home: 'h:1'}}\n")
    with pytest.raises(Usage, match="leeward prober"):
        run_node(Role.EDGE, config=file, log_level="INFO")
