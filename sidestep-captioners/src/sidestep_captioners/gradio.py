"""A Gradio app asked as its own pages ask it: read what it offers, upload the song, call, follow the events."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
from sidestep_core.errors import ProviderError

from sidestep_captioners.http import Http
from sidestep_captioners.upload import MIME, NAME, Recording

_TAKES_FILES = ("audio", "file", "uploadbutton")
_FITTING = re.compile(r"infer|caption|predict|analy[sz]e|describe|generate|chat|run", re.IGNORECASE)
_ASKS = re.compile(r"prompt|question|instruction|query", re.IGNORECASE)
# what an app without a list of its components takes, as Music Flamingo's does
_USUAL = ("audio", "", "textbox")


@attrs.frozen(kw_only=True)
class Slot:
    """One input of a function: the kind of component that fills it, its label, and its value to begin with."""

    kind: str
    label: str = ""
    value: Any = None


@attrs.frozen(kw_only=True)
class GradioApp:
    """A function of an app that takes audio.

    Attributes:
        http: connections.
        url: the app's address, with the prefix of its interface.
        name: the function's name.
        slots: its inputs.
        headers: sent along.
    """

    http: Http
    url: str
    name: str
    slots: tuple[Slot, ...]
    headers: Mapping[str, str] = attrs.field(repr=False)

    def ask(self, recording: Recording, prompt: str, mode: str, cancelled: Callable[[], bool]) -> object:
        """Return what the function answers, a list of its outputs."""
        sent = self.http.ask(
            "POST",
            f"{self.url}/upload",
            cancelled=cancelled,
            headers=self.headers,
            files={"files": (NAME, recording.data, MIME)},
        ).json()
        if not (isinstance(sent, list) and sent and isinstance(sent[0], str)):
            raise ProviderError("the app does not say where it put the song", kind="bad answer")
        call = f"{self.url}/call/{self.name}"
        data = list(self._data(sent[0], prompt))
        begun = self.http.ask("POST", call, cancelled=cancelled, headers=self.headers, json={"data": data}).json()
        event = begun.get("event_id") if isinstance(begun, Mapping) else None
        if not isinstance(event, str):
            raise ProviderError("the app does not take the question", kind="bad answer")
        return _result(self.http.ask("GET", f"{call}/{event}", cancelled=cancelled, headers=self.headers).text)

    def _data(self, path: str, prompt: str) -> Iterator[Any]:
        texts = [number for number, slot in enumerate(self.slots) if slot.kind == "textbox"]
        asking = [number for number in texts if _ASKS.search(self.slots[number].label)] or texts[-1:]
        for number, slot in enumerate(self.slots):
            if slot.kind in _TAKES_FILES:
                yield {"path": path, "orig_name": NAME, "mime_type": MIME, "meta": {"_type": "gradio.FileData"}}
            elif number in asking[:1]:
                yield prompt
            else:
                yield "" if slot.value is None and slot.kind in ("", "textbox") else slot.value


def find_gradio(http: Http, url: str, headers: Mapping[str, str], cancelled: Callable[[], bool]) -> GradioApp | None:
    """Return the function to ask if a Gradio app answers at an address, None if something else does.

    Raises:
        ProviderError: it cannot be reached or needs a token; or the app has no function that takes audio.
    """
    for path in ("/gradio_api/config", "/config"):
        reply = http.send("GET", url + path, cancelled=cancelled, headers=headers)
        if reply.status in (401, 403, 429) or reply.status >= 500:
            http.check(reply)
        config = _config(reply.text) if reply.status == 200 else None
        if config is not None:
            return _best(config, http, url, headers)
    return None


def _config(text: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Mapping) and isinstance(found.get("dependencies"), list) else None


def _best(config: Mapping[str, Any], http: Http, url: str, headers: Mapping[str, str]) -> GradioApp:
    listed = [part for part in config.get("components") or () if isinstance(part, Mapping)]
    components = {part.get("id"): _slot(part) for part in listed}
    offered = [(dep, _slots(dep, components)) for dep in config["dependencies"] if isinstance(dep, Mapping)]
    usable = [
        (_score(dep["api_name"], slots), dep["api_name"], slots)
        for dep, slots in offered
        if isinstance(dep.get("api_name"), str) and any(slot.kind in _TAKES_FILES for slot in slots)
    ]
    if not usable:
        raise ProviderError("the Gradio app has no function that takes audio", kind="key")
    _, name, slots = max(usable, key=lambda found: found[0])
    prefix = str(config.get("api_prefix") or "").rstrip("/")
    return GradioApp(http=http, url=url + prefix, name=name.strip("/"), slots=slots, headers=headers)


def _slots(dependency: Mapping[str, Any], components: Mapping[Any, Slot]) -> tuple[Slot, ...]:
    inputs = dependency.get("inputs")
    if not components or not isinstance(inputs, list):
        return tuple(Slot(kind=kind) for kind in _USUAL)
    found = (components.get(number, Slot(kind="")) for number in inputs)
    return tuple(slot for slot in found if slot.kind != "state")  # kept by the app itself


def _slot(component: Mapping[str, Any]) -> Slot:
    props = component.get("props")
    props = props if isinstance(props, Mapping) else {}
    return Slot(kind=str(component.get("type")), label=str(props.get("label") or ""), value=props.get("value"))


def _score(name: str, slots: tuple[Slot, ...]) -> int:
    asks = any(slot.kind == "textbox" for slot in slots)
    hears = any(slot.kind == "audio" for slot in slots)
    return 4 * asks + 2 * bool(_FITTING.search(name)) + hears


def _result(stream: str) -> object:
    """Return what the events of a call end with; raise `ProviderError` where that is an error, or nothing."""
    for event, data in re.findall(r"^event:\s*(\w+)\r?\ndata:\s*(.*)$", stream, re.MULTILINE):
        if event in ("complete", "error"):
            try:
                said = json.loads(data)
            except ValueError as error:
                raise ProviderError("the app's answer is no valid JSON", kind="bad answer") from error
            if event == "complete":
                return said
            raise _failure(said)
    raise ProviderError("the app's answer ends before it is complete", kind="unreachable")


def _failure(said: object) -> ProviderError:
    reason = said.get("error") if isinstance(said, Mapping) else said
    if not reason:  # the app keeps to itself what happened; it may pass
        return ProviderError("the app failed and does not say why", kind="unreachable")
    text = " ".join(str(reason).split())[:200]
    if re.search(r"quota", text, re.IGNORECASE):
        return ProviderError(f"the app says: {text}", kind="quota")
    busy = re.search(r"queue|too many|try again|busy", text, re.IGNORECASE)
    return ProviderError(f"the app says: {text}", kind="rate" if busy else "bad answer")
