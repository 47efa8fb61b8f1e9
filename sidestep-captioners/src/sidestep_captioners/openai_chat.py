"""OpenAI, and any server that speaks its chat protocol: the song goes along, a forced tool call brings the answer."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import openai
from openai.types.chat import ChatCompletion
from sidestep_core.describing.answers import answer_schema, read_answer
from sidestep_core.describing.prompt import caption_prompt
from sidestep_core.errors import Cancelled, ProviderError
from sidestep_core.interfaces import Description, Track
from sidestep_core.specs import BuildContext

from sidestep_captioners.configs import OpenAIConfig
from sidestep_captioners.failures import failed, need_key, typed_failures
from sidestep_captioners.http import host_of, need_url, timeouts
from sidestep_captioners.upload import load_recording

LIMIT = 20 << 20
TOOL = "describe_song"
_OWN_HOST = "api.openai.com"
# what a server may refuse and an answer can do without; "tools" is followed by text that is read line by line
_DISPENSABLE = ("tool", "temperature", "top_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
_OLD_LIMIT, _NEW_LIMIT = "max_tokens", "max_completion_tokens"


class OpenAIProvider:
    """Asks a model that listens, by chat completions."""

    def __init__(self, config: OpenAIConfig, context: BuildContext) -> None:
        self._config = config
        self._url = config.base_url or os.environ.get("OPENAI_BASE_URL") or f"https://{_OWN_HOST}/v1"
        self._host, self._key = host_of(self._url), ""
        self._client: openai.OpenAI | None = None
        # what the server refused of a question: later ones leave it out
        self._refused: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        self._client = self._open()
        return self

    def __exit__(self, *error: object) -> None:
        if self._client is not None:
            self._client.close()

    def check(self) -> str:
        """Look whether the server knows the key and the model; lists of models are free of charge."""
        with self._open() as client, _failures(self._host, self._key):
            try:
                names = sorted(model.id for model in client.models.list())
            except openai.NotFoundError:  # a server of one model need not list it
                return f"{self._host} answers, and lists no models"
        if names and self._config.model not in names:
            shown = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
            raise ProviderError(f"{self._host} has no model '{self._config.model}'; there is {shown}", kind="key")
        return f"{self._host} answers, and has {self._config.model}"

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Ask about one song."""
        assert self._client is not None, "the provider is not entered"
        recording = load_recording(track.path, limit=LIMIT * 3 // 4, cancelled=cancelled)
        sound = {"data": base64.b64encode(recording.data).decode(), "format": "mp3"}
        content: list[dict[str, Any]] = [
            {"type": "text", "text": caption_prompt(track, wanted, hears=True)},
            {"type": "input_audio", "input_audio": sound},
        ]
        with _failures(self._host, self._key):
            answer = self._ask(self._client, content, wanted, cancelled)
        try:
            fields, model = _read(answer, wanted, self._host), answer.model or self._config.model
        except (AttributeError, TypeError) as error:  # the library takes any JSON, and text, for a completion
            raise ProviderError(f"{self._host} answers with no chat completion", kind="bad answer") from error
        return Description(fields=fields, doubts=recording.doubts, source=model)

    def _open(self) -> openai.OpenAI:
        self._url = need_url(self._url, "give --openai-base-url")
        self._host = host_of(self._url)
        if self._host == _OWN_HOST or self._config.api_key:
            self._key = need_key(
                self._config.api_key, "set OPENAI_API_KEY, or keep one with 'sidestep keys set openai'"
            )
        # a server of one's own needs no key as a rule, and the library insists on one
        key = self._key or "none"
        # whoever calls `describe` asks again; the library must not do it beneath
        timeout = timeouts(self._config.timeout)
        return openai.OpenAI(api_key=key, base_url=self._url, max_retries=0, timeout=timeout)

    def _ask(
        self,
        client: openai.OpenAI,
        content: list[dict[str, Any]],
        wanted: frozenset[str],
        cancelled: Callable[[], bool],
    ) -> ChatCompletion:
        """Ask, and again without what the server turns out not to know."""
        refused = self._refused
        while True:
            if cancelled():
                raise Cancelled("stopped before the server was asked")
            asked = self._question(content, wanted, refused)
            try:
                return client.chat.completions.create(**asked)  # type: ignore[no-any-return]
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                unknown = _unknown_part(error, refused)
                if not unknown:
                    raise
                refused |= {unknown}
                self._refused |= refused

    def _question(
        self, content: list[dict[str, Any]], wanted: frozenset[str], refused: frozenset[str]
    ) -> dict[str, Any]:
        config, schema = self._config, answer_schema(wanted)
        limit = _OLD_LIMIT if _NEW_LIMIT in refused else _NEW_LIMIT
        question: dict[str, Any] = {
            "model": config.model,
            "messages": [{"role": "user", "content": content}],
            limit: config.max_tokens,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "presence_penalty": config.presence_penalty,
            "frequency_penalty": config.frequency_penalty,
        }
        question = {name: value for name, value in question.items() if name not in refused}
        if "tool" not in refused:
            # models that hear take no schema for their answer, but they call a function that has one
            function = {"name": TOOL, "description": "Take down what was heard.", "parameters": schema}
            question["tools"] = [{"type": "function", "function": function}]
            question["tool_choice"] = {"type": "function", "function": {"name": TOOL}}
        if self._host != _OWN_HOST and "repetition_penalty" not in refused:
            question["extra_body"] = {"repetition_penalty": config.repetition_penalty}
        return question


@contextmanager
def _failures(host: str, secret: str) -> Iterator[None]:
    """Make the library's errors a `ProviderError`."""
    try:
        yield
    except openai.APIStatusError as error:
        response = error.response
        made = failed(host, error.status_code, response.text, response.headers, secret=secret)
        deaf = made.kind == "refused" and _says_it_is_deaf(error.message)
        raise ProviderError(str(made), kind="no audio") if deaf else made from error
    except openai.APIConnectionError as error:
        # beneath is what the connection itself said
        with typed_failures(host, secret=secret):
            raise error.__cause__ if isinstance(error.__cause__, Exception) else OSError(str(error)) from error
    except (openai.OpenAIError, ValueError) as error:
        raise ProviderError(f"{host} answers with no valid JSON", kind="bad answer") from error


def _says_it_is_deaf(message: str) -> bool:
    message = message.lower()
    return "audio" in message and ("support" in message or "invalid" in message or "modalit" in message)


def _unknown_part(error: openai.APIStatusError, refused: frozenset[str]) -> str:
    """Return the part of a question that a server refused, "" if it is none that can be left out."""
    said = f"{error.param or ''} {error.message}".lower()
    if _NEW_LIMIT not in refused and _NEW_LIMIT in said:
        return _NEW_LIMIT
    return next((part for part in _DISPENSABLE if part not in refused and part in said), "")


def _read(answer: ChatCompletion, wanted: frozenset[str], host: str) -> dict[str, str]:
    """Return the fields of an answer.

    Raises:
        ProviderError: the model refused, heard nothing, was cut off or answered something else.
    """
    if not answer.choices:
        raise ProviderError(f"{host} answers nothing", kind="bad answer")
    choice = answer.choices[0]
    message = choice.message
    if message.refusal or choice.finish_reason == "content_filter":
        raise ProviderError(f"the model refused: {message.refusal or 'its answer was filtered'}", kind="refused")
    details = answer.usage.prompt_tokens_details if answer.usage else None
    if details is not None and details.audio_tokens == 0:
        raise ProviderError(f"the recording did not reach the model: {host} counts no audio", kind="no audio")
    calls = [call.function.arguments for call in message.tool_calls or () if call.type == "function"]
    try:
        return read_answer(calls[0] if calls else message.content or "", wanted)
    except ProviderError as error:
        if choice.finish_reason == "length":
            raise ProviderError(
                "the answer was cut off: allow a longer one with --max-tokens", kind="bad answer"
            ) from error
        raise
