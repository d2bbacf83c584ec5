"""Tokens on the command line: made, presented to whom one points at, and never shown again."""

import hashlib
import inspect
from pathlib import Path

import httpx2
import pytest
import typer
import yaml
from typer.testing import CliRunner

from ops import presenting
from ops.cli.app import build
from ops.client import ControlPlanes, Refused, open_client
from ops.errors import Usage
from shared.vocabulary.node import Api, ApiToken

SECRET = "lw_not-a-real-one"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    return path


def test_a_token_is_shown_once_with_the_entry_that_lets_it_in() -> None:
    """The entry goes into the node file as it is, and holds the hash alone."""
    shown = CliRunner().invoke(build(), ["token", "alice", "--role", "operator"])
    assert shown.exit_code == 0
    token, entry = shown.stdout.strip().split("\n")
    (made,) = Api.model_validate({"tokens": tuple(yaml.safe_load(entry))}).tokens
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert made == ApiToken.model_validate({"id": "alice", "role": "operator", "sha256": digest})
    assert token not in entry
    assert len(token) >= 43, "256 random bits in base64"


def test_no_two_tokens_are_the_same() -> None:
    """Out of the system's randomness."""
    assert len({presenting.mint()[0] for _ in range(100)}) == 100


@pytest.mark.parametrize("name", ["Alice", "a b", "", "anonymous"])
def test_a_name_that_cannot_stand_in_a_node_file_is_refused(name: str) -> None:
    """Before a token is shown that nobody could use."""
    shown = CliRunner().invoke(build(), ["token", name, "--role", "viewer"])
    assert isinstance(shown.exception, Usage)
    assert shown.stdout == ""


def test_every_command_that_can_be_pointed_elsewhere_can_present_a_token() -> None:
    """Whoever has `--url` has `--token-file` and `--ca-file`."""

    def commands(app: typer.Typer) -> list[inspect.Signature]:
        callbacks = [command.callback for command in app.registered_commands]
        if app.registered_callback is not None:
            callbacks.append(app.registered_callback.callback)
        found = [inspect.signature(each) for each in callbacks if each is not None]
        for group in app.registered_groups:
            found += commands(group.typer_instance) if group.typer_instance is not None else []
        return found

    pointed = [each.parameters for each in commands(build()) if "url" in each.parameters]
    assert len(pointed) > 15
    assert all({"token_file", "ca_file"} <= parameters.keys() for parameters in pointed)


class Heard:
    """What came where, and a leader elsewhere."""

    def __init__(self, status: int = 200) -> None:
        self.presented: list[tuple[str, str | None]] = []
        self.status = status

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.presented.append((request.url.host, request.headers.get("authorization")))
        body = {"leader": {"url": "http://elsewhere"}, "detail": "this replica wants a token"}
        return httpx2.Response(self.status, json=body)


async def test_a_token_goes_where_the_command_points_and_nowhere_else(file: Path) -> None:
    """Not to the leader that an answer names; without a token that one is asked first, as ever."""
    heard = Heard()
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(heard)) as client:
        with presenting.given(token_file=file, ca_file=None):
            planes = await ControlPlanes(client, ["http://given"]).leader_first()
            await planes.get("/v1/rollouts")
            await planes.change("POST", "/v1/plan", {})
        assert heard.presented == [("given", f"Bearer {SECRET}")] * 3
        heard.presented.clear()
        planes = await ControlPlanes(client, ["http://given"]).leader_first()
        await planes.get("/v1/rollouts")
    assert heard.presented == [("given", None), ("elsewhere", None)]


async def test_where_a_token_is_wanted_the_message_says_how_to_give_one(file: Path) -> None:
    """And does not repeat the one that was presented."""
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(Heard(401))) as client:
        with presenting.given(token_file=file, ca_file=None), pytest.raises(Refused) as refused:
            await ControlPlanes(client, ["http://given"]).get("/v1/edges")
    assert "LEEWARD_TOKEN or --token-file" in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("content", ["", "two words\n", "a\nb\n", "sch\u00f6n"])
def test_a_file_that_holds_no_token_is_named_and_not_repeated(tmp_path: Path, content: str) -> None:
    """Wrong usage, said without what stands in it."""
    path = tmp_path / "token"
    path.write_text(content)
    with presenting.given(token_file=path, ca_file=None), pytest.raises(Usage, match="--token-file") as error:
        presenting.headers()
    assert not content.strip() or content.strip() not in str(error.value)


def test_a_file_without_certificates_is_wrong_usage(file: Path) -> None:
    """Named, and said before anybody is asked."""
    with presenting.given(token_file=None, ca_file=file), pytest.raises(Usage, match="holds no certificates"):
        open_client()
