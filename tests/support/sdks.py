"""The official clients of three providers behind one face, so that a test can ask each the same thing.

Each is built as its users build it, with no retries of its own: what a test sees is what the edge sent.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import errors, types

MAX_TOKENS = 512
TOOL = "look_up"
PARAMETERS = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
ENDS = {
    "stop": "end",
    "length": "length",
    "tool_calls": "calls",
    "end_turn": "end",
    "max_tokens": "length",
    "tool_use": "calls",
}


@dataclass
class Said:
    """An answer as its user sees it. `calls` are names and arguments; `end` is end, length or calls."""

    text: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    end: str = ""
    tokens: tuple[int, int] = (0, 0)
    model: str = ""
    pieces: int = 0


@dataclass
class Failed(Exception):
    """The client's own error. `pieces` of an answer had come before it; `status` is None where it has none."""

    status: int | None
    message: str
    pieces: int
    kind: str


class Sdk(ABC):
    """One client."""

    name: str

    @abstractmethod
    async def say(
        self, model: str, prompt: str, *, stream: bool = False, tool: bool = False, limit: int = MAX_TOKENS
    ) -> Said:
        """Ask. Raises Failed."""

    @abstractmethod
    async def go_on(self, model: str, prompt: str, said: Said) -> Said:
        """Give the result of the tool call that `said` made."""

    async def vectors(self, model: str, texts: list[str]) -> list[list[float]]:
        """Embeddings. Raises Failed."""
        raise NotImplementedError

    @abstractmethod
    async def models(self) -> list[str]:
        """Names of the models."""

    @abstractmethod
    async def close(self) -> None:
        """Close its connections."""


class OpenAi(Sdk):
    """openai, chat completions and embeddings."""

    name = "openai"

    def __init__(self, base: str) -> None:
        self._client = openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="dev", max_retries=0, timeout=15)

    async def say(
        self, model: str, prompt: str, *, stream: bool = False, tool: bool = False, limit: int = MAX_TOKENS
    ) -> Said:
        function = {"name": TOOL, "description": "Looks it up.", "parameters": PARAMETERS}
        return await self._ask(
            stream,
            model=model,
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}],
            max_completion_tokens=limit,
            **({"tools": [{"type": "function", "function": function}]} if tool else {}),
        )

    async def go_on(self, model: str, prompt: str, said: Said) -> Said:
        name, arguments = said.calls[0]
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"id": "call_1", "type": "function", "function": function}
        return await self._ask(
            False,
            model=model,
            messages=[
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "3 m"},
            ],
            tools=[{"type": "function", "function": {"name": TOOL, "parameters": PARAMETERS}}],
        )

    async def vectors(self, model: str, texts: list[str]) -> list[list[float]]:
        try:
            given = await self._client.embeddings.create(model=model, input=texts)
        except openai.APIStatusError as error:
            raise Failed(error.status_code, error.message, 0, type(error).__name__) from error
        return [row.embedding for row in given.data]

    async def models(self) -> list[str]:
        return [model.id async for model in self._client.models.list()]

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, stream: bool, **asked: Any) -> Said:
        said = Said()
        calls: dict[int, list[str]] = {}
        create: Any = self._client.chat.completions.create
        try:
            if not stream:
                whole = await create(**asked)
                message = whole.choices[0].message
                told = [
                    (call.function.name, json.loads(call.function.arguments))
                    for call in message.tool_calls or ()
                ]
                tokens = (whole.usage.prompt_tokens, whole.usage.completion_tokens)
                end = ENDS[whole.choices[0].finish_reason]
                return Said(message.content or "", told, end, tokens, whole.model, 1)
            async for chunk in await create(**asked, stream=True, stream_options={"include_usage": True}):
                said.model = chunk.model or said.model
                if chunk.usage:
                    said.tokens = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                for choice in chunk.choices:
                    said.pieces += bool(choice.delta.content)
                    said.text += choice.delta.content or ""
                    for part in choice.delta.tool_calls or ():
                        call = calls.setdefault(part.index, ["", ""])
                        call[0] += part.function.name or ""
                        call[1] += part.function.arguments or ""
                    said.end = ENDS[choice.finish_reason] if choice.finish_reason else said.end
        except openai.APIError as error:
            status = getattr(error, "status_code", None)
            raise Failed(status, str(error.message), said.pieces, type(error).__name__) from error
        said.calls = [(name, json.loads(arguments)) for name, arguments in calls.values()]
        return said


class Anthropic(Sdk):
    """anthropic, messages."""

    name = "anthropic"

    def __init__(self, base: str) -> None:
        self._client = anthropic.AsyncAnthropic(base_url=base, api_key="dev", max_retries=0, timeout=15)

    async def say(
        self, model: str, prompt: str, *, stream: bool = False, tool: bool = False, limit: int = MAX_TOKENS
    ) -> Said:
        return await self._ask(
            stream,
            model=model,
            system="Be brief.",
            messages=[{"role": "user", "content": prompt}],
            max_tokens=limit,
            **({"tools": [self._tool()]} if tool else {}),
        )

    async def go_on(self, model: str, prompt: str, said: Said) -> Said:
        name, arguments = said.calls[0]
        call = {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "3 m"}
        return await self._ask(
            False,
            model=model,
            messages=[
                {"role": "user", "content": prompt},
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result]},
            ],
            tools=[self._tool()],
            max_tokens=MAX_TOKENS,
        )

    async def models(self) -> list[str]:
        return [model.id async for model in self._client.models.list()]

    async def close(self) -> None:
        await self._client.close()

    @staticmethod
    def _tool() -> dict[str, Any]:
        return {"name": TOOL, "description": "Looks it up.", "input_schema": PARAMETERS}

    async def _ask(self, stream: bool, **asked: Any) -> Said:
        pieces = 0
        try:
            if not stream:
                message = await self._client.messages.create(**asked)
            else:
                async with self._client.messages.stream(**asked) as events:
                    async for _ in events.text_stream:
                        pieces += 1
                    message = await events.get_final_message()
        except anthropic.APIError as error:
            status = getattr(error, "status_code", None)
            raise Failed(status, str(error.message), pieces, type(error).__name__) from error
        text = "".join(block.text for block in message.content if block.type == "text")
        calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
        usage = (message.usage.input_tokens, message.usage.output_tokens)
        return Said(text, calls, ENDS[message.stop_reason or ""], usage, message.model, pieces or 1)


class Google(Sdk):
    """google-genai, generate_content and embed_content."""

    name = "gemini"

    def __init__(self, base: str) -> None:
        self._client = genai.Client(
            api_key="dev", http_options=types.HttpOptions(base_url=base, timeout=15_000)
        )

    async def say(
        self, model: str, prompt: str, *, stream: bool = False, tool: bool = False, limit: int = MAX_TOKENS
    ) -> Said:
        config = types.GenerateContentConfig(
            system_instruction="Be brief.",
            max_output_tokens=limit,
            tools=[self._tool()] if tool else None,
        )
        return await self._ask(stream, model=model, contents=prompt, config=config)

    async def go_on(self, model: str, prompt: str, said: Said) -> Said:
        name, arguments = said.calls[0]
        call = types.Part.from_function_call(name=name, args=arguments)
        result = types.Part.from_function_response(name=name, response={"result": "3 m"})
        contents = [
            types.Content(role="user", parts=[types.Part(text=prompt)]),
            types.Content(role="model", parts=[call]),
            types.Content(role="user", parts=[result]),
        ]
        config = types.GenerateContentConfig(tools=[self._tool()], max_output_tokens=MAX_TOKENS)
        return await self._ask(False, model=model, contents=contents, config=config)

    async def vectors(self, model: str, texts: list[str]) -> list[list[float]]:
        contents: list[Any] = list(texts)
        try:
            given = await self._client.aio.models.embed_content(model=model, contents=contents)
        except errors.APIError as error:
            raise Failed(error.code, str(error.message), 0, type(error).__name__) from error
        return [list(row.values or ()) for row in given.embeddings or ()]

    async def models(self) -> list[str]:
        return [
            (model.name or "").removeprefix("models/") async for model in await self._client.aio.models.list()
        ]

    async def close(self) -> None:
        await self._client.aio.aclose()
        self._client.close()

    @staticmethod
    def _tool() -> types.Tool:
        declared = types.FunctionDeclaration(
            name=TOOL, description="Looks it up.", parameters_json_schema=PARAMETERS
        )
        return types.Tool(function_declarations=[declared])

    async def _ask(self, stream: bool, **asked: Any) -> Said:
        said = Said()
        models = self._client.aio.models
        try:
            if stream:
                async for piece in await models.generate_content_stream(**asked):
                    self._add(said, piece)
            else:
                self._add(said, await models.generate_content(**asked))
        except errors.APIError as error:
            raise Failed(error.code, str(error.message), said.pieces, type(error).__name__) from error
        if said.calls and said.end == "end":
            said.end = "calls"  # Google's own reason for a call is STOP
        return said

    @staticmethod
    def _add(said: Said, piece: types.GenerateContentResponse) -> None:
        for candidate in piece.candidates or ():
            for part in candidate.content.parts or () if candidate.content else ():
                said.pieces += bool(part.text)
                said.text += part.text or ""
                if part.function_call:
                    said.calls.append((part.function_call.name or "", dict(part.function_call.args or {})))
            if candidate.finish_reason:
                said.end = "length" if candidate.finish_reason.name == "MAX_TOKENS" else "end"
        if piece.usage_metadata:
            usage = piece.usage_metadata
            said.tokens = (usage.prompt_token_count or 0, usage.candidates_token_count or 0)
        said.model = piece.model_version or said.model


SDKS: dict[str, type[Sdk]] = {sdk.name: sdk for sdk in (OpenAi, Anthropic, Google)}


@asynccontextmanager
async def sdk(name: str, base: str) -> AsyncIterator[Any]:
    """The client of dialect `name`, on the edge at `base`."""
    client = SDKS[name](base)  # type: ignore[call-arg]
    try:
        yield client
    finally:
        await client.close()
