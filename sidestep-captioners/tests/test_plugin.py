"""The package's plugin loads, is light, and its settings carry the names that users know."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sidestep_captioners import plugin
from sidestep_core.describing.normalise import FIELDS
from sidestep_core.options import options_of
from sidestep_core.testing.contracts import PluginContract

SPECS = {spec.name: spec for spec in plugin.sidestep_providers()}


class TestCaptionersPlugin(PluginContract):
    plugin = "sidestep_captioners.plugin"


def flags(name):
    return {flag for option in options_of(SPECS[name].config) for flag in option.flags}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("gemini", {"--ai-model", "--model", "--gemini-api-key", "--google-search"}),
        ("openai", {"--ai-model", "--model", "--openai-api-key", "--openai-base-url"}),
        ("genius", {"--genius-token"}),
        ("music_flamingo", {"--music-flamingo-url", "--hf-token"}),
        ("transcriber_server", {"--transcriber-server-url"}),
    ],
)
def test_flags_that_users_know_are_there(name, known):
    assert known <= flags(name)


def test_every_key_is_a_secret_and_shown_nowhere():
    for spec in SPECS.values():
        for option in options_of(spec.config):
            named = any(word in option.name for word in ("key", "token")) and option.type is str
            assert option.secret == named, f"{spec.name}.{option.name}"


def test_who_hears_describes_and_who_knows_lyrics_gives_them():
    assert {name for name, spec in SPECS.items() if "lyrics" in spec.supplies} == {
        "genius",
        "music_flamingo",
        "transcriber_server",
        "acestep_transcriber",
    }
    assert all(spec.supplies <= set(FIELDS) for spec in SPECS.values())
    assert {name for name, spec in SPECS.items() if spec.offline} == {
        "local_8-10gb",
        "local_16gb",
        "acestep_transcriber",
        "music_flamingo_local",
    }


def test_registering_imports_no_library_of_a_service():
    heavy = ("openai", "google.genai", "httpx2", "numpy", "soundfile", "torch")
    found = f"[name for name in {heavy} if name in sys.modules]"
    code = f"import sys, sidestep_captioners.plugin as plugin; plugin.sidestep_providers(); print({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
