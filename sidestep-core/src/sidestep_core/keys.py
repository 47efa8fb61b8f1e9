"""Keys of services: from the environment, else from the system's keyring; never in a file that we write."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from sidestep_core.errors import ConfigError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

KEYRING = "sidestep"
# the variables that the services' own tools use
_VARIABLES: Mapping[str, str] = {"genius": "GENIUS_API_TOKEN", "huggingface": "HF_TOKEN"}
KeyPlace = Literal["environment", "keyring", ""]


def key_variable(service: str) -> str:
    """Return the environment variable that holds the key of a service."""
    return _VARIABLES.get(service, f"{service.upper().replace('-', '_')}_API_KEY")


def find_key(service: str) -> str | None:
    """Return the key of a service, None where there is none."""
    return os.environ.get(key_variable(service), "").strip() or _stored(service)


def key_place(service: str) -> KeyPlace:
    """Return where the key of a service is."""
    if os.environ.get(key_variable(service), "").strip():
        return "environment"
    return "keyring" if _stored(service) else ""


def store_key(service: str, key: str) -> None:
    """Keep a key in the system's keyring.

    Raises:
        ConfigError: it is no key, or there is no keyring that encrypts what it keeps.
    """
    key, backends = clean_key(key, service), _backends()
    instead = f"; put the key into the environment as {key_variable(service)} instead"
    if not backends:
        raise ConfigError(f"this machine has no keyring that encrypts what it keeps{instead}")
    from keyring.errors import KeyringError

    try:
        backends[0].set_password(KEYRING, service, key)
    except KeyringError as error:
        raise ConfigError(f"the keyring does not take the key ({type(error).__name__}){instead}") from None


def forget_key(service: str) -> bool:
    """Remove a key from the system's keyring; tell whether it was there."""
    backend = next((backend for backend in _backends() if _get(backend, service)), None)
    if backend is not None:
        backend.delete_password(KEYRING, service)
    return backend is not None


def clean_key(key: str, what: str) -> str:
    """Return a key without whitespace around it; raise `ConfigError`, without showing it, where it cannot be one."""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the key for {what} is empty or holds a character that no key has; copy it anew")
    return key


def _stored(service: str) -> str | None:
    return next((key for backend in _backends() if (key := _get(backend, service))), None)


def _get(backend: KeyringBackend, service: str) -> str | None:
    from keyring.errors import KeyringError

    try:
        return backend.get_password(KEYRING, service)
    except KeyringError:  # locked, or out of reach from here: as if it held nothing
        return None


def _backends() -> list[KeyringBackend]:
    """Return the keyrings that may be used; one that would write keys in clear is not among them."""
    if importlib.util.find_spec("keyring") is None:
        return []
    import keyring

    chosen = keyring.get_keyring()
    return [backend for backend in getattr(chosen, "backends", [chosen]) if not _is_open(backend)]


def _is_open(backend: KeyringBackend) -> bool:
    name = f"{type(backend).__module__}.{type(backend).__name__}"
    return "Plaintext" in name or name.startswith(("keyring.backends.fail", "keyring.backends.null"))
