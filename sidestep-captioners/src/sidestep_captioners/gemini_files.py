"""A song on its way to Gemini: within the question while it is small, else as a file that is deleted in every case."""

from __future__ import annotations

import io
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
from google import genai
from google.genai import errors, types
from sidestep_core.errors import Cancelled, ProviderError

from sidestep_captioners.upload import MIME

logger = logging.getLogger(__name__)
# a question may have 20 MB, and base64 makes four bytes of three
INLINE = 14 << 20
_READY_WITHIN, _PAUSE = 120.0, 0.5
_LONGEST_NAME = 100
_GONE = (403, 404)  # the service says either of a file that is not there


@contextmanager
def sent_along(
    client: genai.Client, data: bytes, title: str, *, cancelled: Callable[[], bool], doubts: list[str]
) -> Iterator[types.Part]:
    """Yield a song as part of a question; what had to be uploaded for it is deleted afterwards, whatever happens.

    Args:
        client: of the service.
        data: an MP3.
        title: what the service's list of files shows.
        cancelled: asked while the service gets the file ready.
        doubts: gets a line where the file could not be deleted.
    """
    if len(data) <= INLINE:
        yield types.Part.from_bytes(data=data, mime_type=MIME)
        return
    # a name of our own: the file can be deleted even if the answer to its upload never arrives
    name = f"files/sidestep-{uuid.uuid4().hex[:20]}"
    try:
        config = types.UploadFileConfig(name=name, mime_type=MIME, display_name=title[:_LONGEST_NAME])
        file = client.files.upload(file=io.BytesIO(data), config=config)
        name = file.name or name
        yield _when_ready(client, file, name, cancelled)
    finally:
        _delete(client, name, doubts)


def _when_ready(client: genai.Client, file: types.File, name: str, cancelled: Callable[[], bool]) -> types.Part:
    deadline = time.monotonic() + _READY_WITHIN
    while file.state is types.FileState.PROCESSING:
        if cancelled():
            raise Cancelled("stopped while the service got the song ready")
        if time.monotonic() > deadline:
            raise ProviderError("Gemini does not get the uploaded song ready", kind="unreachable")
        time.sleep(_PAUSE)
        file = client.files.get(name=name)
    if file.state is types.FileState.FAILED or not file.uri:
        raise ProviderError("Gemini cannot hear the uploaded song", kind="no audio")
    return types.Part.from_uri(file_uri=file.uri, mime_type=MIME)


def _delete(client: genai.Client, name: str, doubts: list[str]) -> None:
    try:
        client.files.delete(name=name)
    except (errors.APIError, httpx2.HTTPError, ValueError) as error:
        if getattr(error, "code", 0) in _GONE:
            return
        left = "the uploaded song could not be deleted; Google deletes it itself after two days"
        logger.warning("%s (%s)", left, name)
        doubts.append(left)
