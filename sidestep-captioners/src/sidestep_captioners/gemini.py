"""Google's Gemini: the song goes along or is uploaded and deleted again, the answer follows a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx2
from google import genai
from google.genai import errors, types
from sidestep_core.describing.answers import answer_schema, read_answer
from sidestep_core.describing.prompt import caption_prompt
from sidestep_core.errors import Cancelled, ProviderError
from sidestep_core.interfaces import Description, Track
from sidestep_core.specs import BuildContext

from sidestep_captioners.configs import GeminiConfig
from sidestep_captioners.failures import failed, need_key, retry_after, typed_failures
from sidestep_captioners.gemini_files import sent_along
from sidestep_captioners.upload import load_recording

HOST = "Gemini"
_LARGEST = 512 << 20  # bytes, four hours at the highest rate; the service itself would take more
_THOUGHTS = 8192  # tokens: models that think count their thoughts as part of the answer
_BAD_KEY = re.compile(r"API_KEY_INVALID|API key not valid|API key expired|location is not supported", re.IGNORECASE)
_SPENT = re.compile(r"PerDay|limit: 0\b")
_DELAY = re.compile(r'"retryDelay":\s*"([\d.]+)s"')


class GeminiProvider:
    """Asks a Gemini model."""

    def __init__(self, config: GeminiConfig, context: BuildContext) -> None:
        self._config, self._key = config, ""
        self._client: genai.Client | None = None
        # models before Gemini 3 search the web or follow a schema, not both
        self._either = "gemini-2" in config.model

    def __enter__(self) -> Self:
        self._client = self._open()
        return self

    def __exit__(self, *error: object) -> None:
        if self._client is not None:
            self._client.close()

    def check(self) -> str:
        """Look whether the service knows the key and the model; asking for a model's properties is free of charge."""
        client = self._open()
        try:
            with _failures(self._key):
                model = client.models.get(model=self._config.model)
        finally:
            client.close()
        return f"{HOST} answers, and has {(model.name or self._config.model).removeprefix('models/')}"

    def describe(self, track: Track, wanted: frozenset[str], cancelled: Callable[[], bool]) -> Description:
        """Ask about one song."""
        assert self._client is not None, "the provider is not entered"
        recording = load_recording(track.path, limit=_LARGEST, cancelled=cancelled)
        doubts = list(recording.doubts)
        if cancelled():
            raise Cancelled("stopped before the service was asked")
        prompt = caption_prompt(track, wanted, hears=True, grounding=self._config.google_search)
        with (
            _failures(self._key),
            sent_along(self._client, recording.data, track.title, cancelled=cancelled, doubts=doubts) as song,
        ):
            answer = self._ask(self._client, [song, prompt], wanted)
        fields = read_answer(_text(answer), wanted)
        return Description(fields=fields, doubts=tuple(doubts), source=_source(answer, self._config.model))

    def _open(self) -> genai.Client:
        self._key = need_key(self._config.api_key, "set GEMINI_API_KEY, or keep one with 'sidestep keys set gemini'")
        # the library waits and repeats a failed upload; an error that is raised at once leaves that to the caller
        hooks = {"event_hooks": {"response": [_raise_at_once]}}
        options = types.HttpOptions(timeout=round(self._config.timeout * 1000), client_args=hooks)
        return genai.Client(api_key=self._key, vertexai=False, http_options=options)

    def _ask(self, client: genai.Client, contents: list[Any], wanted: frozenset[str]) -> types.GenerateContentResponse:
        """Ask with a schema, where that and a search cannot be had together without one."""
        searching = self._config.google_search
        structured = not (searching and self._either)
        try:
            return self._generate(client, contents, wanted, structured=structured)
        except errors.ClientError as error:
            if not (structured and searching and error.code == 400 and "mime type" in str(error.message)):
                raise
            self._either = True
            return self._generate(client, contents, wanted, structured=False)

    def _generate(
        self, client: genai.Client, contents: list[Any], wanted: frozenset[str], *, structured: bool
    ) -> types.GenerateContentResponse:
        config = self._config
        settings = types.GenerateContentConfig(
            temperature=config.temperature,
            top_p=config.top_p,
            max_output_tokens=config.max_tokens + _THOUGHTS,
            # some models take none, not even 0
            presence_penalty=config.presence_penalty or None,
            frequency_penalty=config.frequency_penalty or None,
            tools=[types.Tool(google_search=types.GoogleSearch())] if config.google_search else None,
            response_mime_type="application/json" if structured else None,
            response_json_schema=answer_schema(wanted) if structured else None,
        )
        return client.models.generate_content(model=config.model, contents=contents, config=settings)


def _raise_at_once(response: httpx2.Response) -> None:
    if response.is_error:
        response.read()
        errors.APIError.raise_for_response(response)


@contextmanager
def _failures(secret: str) -> Iterator[None]:
    """Make the library's errors a `ProviderError`."""
    try:
        with typed_failures(HOST, secret=secret):
            yield
    except errors.APIError as error:
        raise _of_api(error, secret) from error
    except (errors.UnknownApiResponseError, ValueError, KeyError) as error:
        raise ProviderError(f"{HOST} answers with nothing that can be read", kind="bad answer") from error


def _of_api(error: errors.APIError, secret: str) -> ProviderError:
    body = json.dumps(error.details)
    headers = getattr(error.response, "headers", {})
    made = failed(HOST, error.code, body, headers, secret=secret)
    if error.code == 400 and _BAD_KEY.search(body):
        return ProviderError(str(made), kind="key")
    if error.code == 429:
        # every 429 speaks of a quota; which one tells whether waiting helps
        delay = _DELAY.search(body)
        after = float(delay[1]) if delay else retry_after(headers)
        return ProviderError(str(made), kind="quota" if _SPENT.search(body) else "rate", retry_after=after)
    return made


def _text(answer: types.GenerateContentResponse) -> str:
    """Return what the model wrote.

    Raises:
        ProviderError: it refused, heard nothing or was cut off.
    """
    blocked = answer.prompt_feedback.block_reason if answer.prompt_feedback else None
    if blocked:
        raise ProviderError(f"{HOST} refuses the song ({blocked.name})", kind="refused")
    counted = (answer.usage_metadata and answer.usage_metadata.prompt_tokens_details) or []
    if counted and not any(part.modality == types.MediaModality.AUDIO and part.token_count for part in counted):
        raise ProviderError(f"the recording did not reach the model: {HOST} counts no audio", kind="no audio")
    reason = answer.candidates[0].finish_reason if answer.candidates else None
    if reason is types.FinishReason.MAX_TOKENS:
        raise ProviderError("the answer was cut off: allow a longer one with --max-tokens", kind="bad answer")
    if reason not in (None, types.FinishReason.STOP, types.FinishReason.FINISH_REASON_UNSPECIFIED):
        raise ProviderError(f"{HOST} refuses to answer ({reason.name})", kind="refused")
    if not (text := answer.text):
        raise ProviderError(f"{HOST} answers nothing", kind="bad answer")
    return text


def _source(answer: types.GenerateContentResponse, model: str) -> str:
    """Return the model that answered, and what it searched for."""
    grounding = answer.candidates[0].grounding_metadata if answer.candidates else None
    queries = (grounding.web_search_queries if grounding else None) or []
    searched = f", searched: {'; '.join(queries)}" if queries else ""
    return f"{answer.model_version or model}{searched}"
