"""What clients really use, against every edge of the running stack: the official `openai` SDK."""

import contextlib
import math

import httpx2
import openai
import pytest
from local_stack import LocalStack, wait_for

from ops.simulator.answers import expected_answer, is_whole

REGIONS = ("us-east", "eu-west", "ap-south")
QUESTION = "Name what grows on the lee side, in 40 words."


def client_of(stack: LocalStack, region: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.edge_url(region)}/v1", api_key="dev", max_retries=0, timeout=20.0)


@pytest.mark.parametrize("region", REGIONS)
def test_the_openai_sdk_is_answered_from_its_own_region(stack: LocalStack, region: str) -> None:
    """Chat, streamed and not, embeddings and models, with the headers of the contract."""
    own = wait_for(
        "the own region first", lambda: stack.chat(region).headers["x-leeward-region"] == region, timeout_s=20
    )
    assert own
    with client_of(stack, region) as client:
        messages = [{"role": "user", "content": QUESTION}]
        raw = client.chat.completions.with_raw_response.create(model="chat", messages=messages)
        assert raw.parse().choices[0].message.content == expected_answer(QUESTION)
        named = {
            name: raw.headers[f"x-leeward-{name}"]
            for name in ("region", "target", "tier", "mode", "attempts")
        }
        assert named == {
            "region": region,
            "target": f"alpha-{region}",
            "tier": "1",
            "mode": "FRESH",
            "attempts": "1",
        }
        generation, _, seq = raw.headers["x-leeward-decision"].partition(".")
        assert int(generation) >= 1
        assert int(seq) >= 1
        assert raw.headers["x-leeward-request-id"]
        assert "x-leeward-degraded" not in raw.headers
        stream = client.chat.completions.create(
            model="chat", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == expected_answer(QUESTION)
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 40
        vectors = client.embeddings.create(model="embed", input=["lee", "windward"]).data
        assert [math.isclose(sum(x * x for x in v.embedding), 1.0, rel_tol=1e-3) for v in vectors] == [
            True,
            True,
        ]
        assert [model.id for model in client.models.list()] == ["chat", "embed"]


def test_errors_are_the_sdks_own(stack: LocalStack) -> None:
    """A wrong key, an unknown model and a malformed request raise what the SDK raises for them."""
    with client_of(stack, "us-east") as client:
        messages = [{"role": "user", "content": "hello"}]
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").chat.completions.create(model="chat", messages=messages)
        with pytest.raises(openai.NotFoundError, match="model"):
            client.chat.completions.create(model="nothing", messages=messages)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="chat", messages="no list")  # type: ignore[arg-type]


def test_a_stream_that_is_cut_never_looks_complete(stack: LocalStack) -> None:
    """The target dies after ten tokens: the SDK raises, after exactly the tokens that had come."""
    panel = f"http://127.0.0.1:{stack.port_base + 700}/faults"
    fault = {"cut_after_tokens": 10, "only": {"stream": True}, "for_s": 30}
    assert stack.http.put(panel, json=fault).status_code == 200
    try:
        said: list[str] = []
        with client_of(stack, "us-east") as client, pytest.raises((openai.APIError, httpx2.HTTPError)):  # noqa: PT012
            for chunk in client.chat.completions.create(
                model="chat", messages=[{"role": "user", "content": QUESTION}], stream=True
            ):
                said += [choice.delta.content or "" for choice in chunk.choices]
        text = "".join(said)
        assert text
        assert expected_answer(QUESTION).startswith(text)
        assert not is_whole(text)
    finally:
        with contextlib.suppress(httpx2.HTTPError):
            stack.http.delete(panel)
