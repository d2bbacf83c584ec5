"""The model simulator's Gemini dialect: what Google's client gets from it, and its faults in that dialect."""

from collections.abc import AsyncIterator

import pytest
from google import genai
from google.genai import errors, types

from ops.simulator.answers import embedding, expected_answer
from ops.simulator.app import Simulator
from ops.simulator.faults import Faults, Throttle
from ops.simulator.identity import identity_of

PROMPT = "Say it in 20 words."
WHOLE = expected_answer(PROMPT)
MODEL = "alpha-large"
TOOL = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name="look_up", parameters={"type": "OBJECT", "properties": {}})
    ]
)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A target that answers as fast as it can."""
    async with Simulator(identity_of("alpha-us-east")) as simulator:
        yield simulator


@pytest.fixture
async def google(simulator: Simulator) -> AsyncIterator[genai.client.AsyncClient]:
    """Google's client on it."""
    base = simulator.url.removesuffix("/v1")
    client = genai.Client(api_key="dev", http_options=types.HttpOptions(base_url=base))
    yield client.aio
    await client.aio.aclose()
    client.close()


async def test_an_answer_is_the_same_streamed_or_not(google) -> None:
    """The same prompt has the same answer as in every other dialect, and says what it took."""
    whole = await google.models.generate_content(model=MODEL, contents=PROMPT)
    assert whole.text == WHOLE
    assert whole.candidates[0].finish_reason is types.FinishReason.STOP
    assert whole.usage_metadata.candidates_token_count == 20
    assert whole.model_version == MODEL
    pieces = [
        piece async for piece in await google.models.generate_content_stream(model=MODEL, contents=PROMPT)
    ]
    assert len(pieces) == 20
    assert "".join(piece.text for piece in pieces) == WHOLE
    assert pieces[-1].candidates[0].finish_reason is types.FinishReason.STOP
    assert pieces[-1].usage_metadata == whole.usage_metadata
    short = await google.models.generate_content(
        model=MODEL, contents=PROMPT, config=types.GenerateContentConfig(max_output_tokens=5)
    )
    assert short.candidates[0].finish_reason is types.FinishReason.MAX_TOKENS


async def test_a_function_is_called_when_the_prompt_names_it(google) -> None:
    """Once; its result is answered in words."""
    config = types.GenerateContentConfig(tools=[TOOL])
    asked = types.Content(role="user", parts=[types.Part(text="Please look_up the tide")])
    called = await google.models.generate_content(model=MODEL, contents=asked, config=config)
    assert [(call.name, call.args) for call in called.function_calls] == [
        ("look_up", {"text": "Please look_up the tide"})
    ]
    result = types.Part.from_function_response(name="look_up", response={"height": 3})
    answered = await google.models.generate_content(
        model=MODEL,
        contents=[asked, called.candidates[0].content, types.Content(role="user", parts=[result])],
        config=config,
    )
    assert answered.function_calls is None
    assert answered.text == expected_answer("Please look_up the tide")


async def test_embeddings_and_models(google) -> None:
    """Vectors follow from the text alone; the list has the one model."""
    given = await google.models.embed_content(model=MODEL, contents=["one", "two"])
    assert [row.values for row in given.embeddings] == [
        pytest.approx(embedding("one")),
        pytest.approx(embedding("two")),
    ]
    assert [model.name async for model in await google.models.list()] == [f"models/{MODEL}"]
    assert (await google.models.get(model=MODEL)).display_name == MODEL


async def test_errors_and_faults_are_googles(google, simulator) -> None:
    """404 and 429 in Google's envelope; a stream that is cut raises."""
    with pytest.raises(errors.ClientError) as unknown:
        await google.models.generate_content(model="other", contents=PROMPT)
    assert (unknown.value.code, unknown.value.status) == (404, "NOT_FOUND")
    await simulator.apply(Faults(throttle=Throttle()))
    with pytest.raises(errors.ClientError) as busy:
        await google.models.generate_content(model=MODEL, contents=PROMPT)
    assert (busy.value.code, busy.value.status) == (429, "RESOURCE_EXHAUSTED")
    await simulator.apply(Faults(cut_after_tokens=3))
    got: list[str] = []

    async def read() -> None:
        async for piece in await google.models.generate_content_stream(model=MODEL, contents=PROMPT):
            got.append(piece.text)

    with pytest.raises(Exception, match="payload is not completed"):
        await read()
    assert len(got) == 3
