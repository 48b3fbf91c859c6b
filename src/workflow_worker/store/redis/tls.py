"""`Tls`: how connections of ``rediss://`` are encrypted, and whose certificates are trusted."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from workflow_worker.model.exceptions import ConfigurationError

T = TypeVar("T")

TLS_OPTIONS = frozenset(
    {
        *("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers"),
    }
)
"""Options of REDIS_URL, called as redis-py calls them."""

_YES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Tls:
    """Files and rules; certificates and host names are checked unless the URL says otherwise in so many words."""

    ca_certs: str | None = None
    ca_path: str | None = None
    ca_data: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = None
    verify: bool = True
    check_hostname: bool = True
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ciphers: str | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Tls:
        """The options of a URL.

        Raises:
            ConfigurationError: A value is none of those that its option has.
        """
        verify = _chosen(options, "ssl_cert_reqs", {"required": True, "none": False}, True)
        return cls(
            ca_certs=options.get("ssl_ca_certs"),
            ca_path=options.get("ssl_ca_path"),
            ca_data=options.get("ssl_ca_data"),
            certfile=options.get("ssl_certfile"),
            keyfile=options.get("ssl_keyfile"),
            password=options.get("ssl_password"),
            verify=verify,
            check_hostname=_chosen(options, "ssl_check_hostname", _YES, verify) and verify,
            min_version=_chosen(options, "ssl_min_version", _VERSIONS, ssl.TLSVersion.TLSv1_2),
            ciphers=options.get("ssl_ciphers"),
        )

    def __repr__(self) -> str:
        return f"Tls(ca_certs={self.ca_certs!r}, certfile={self.certfile!r}, verify={self.verify})"

    def context(self) -> ssl.SSLContext:
        """A new context; reads the files.

        Raises:
            ConfigurationError: A file cannot be read or used, or there is no such cipher.
        """
        try:
            context = ssl.create_default_context(
                ssl.Purpose.SERVER_AUTH, cafile=self.ca_certs, capath=self.ca_path, cadata=self.ca_data
            )
            if self.certfile is not None:
                context.load_cert_chain(self.certfile, self.keyfile, self.password or _no_password)
            if self.ciphers is not None:
                context.set_ciphers(self.ciphers)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the certificates or ciphers of REDIS_URL cannot be used: {error}") from error
        context.minimum_version = self.min_version
        context.check_hostname = self.check_hostname
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        return context


def _no_password() -> str:
    """Instead of OpenSSL's own question, which would wait for somebody at the terminal."""
    return ""


def _chosen(options: Mapping[str, str], name: str, words: Mapping[str, T], default: T) -> T:
    text = options.get(name)
    if text is None:
        return default
    for word, value in words.items():
        if word.lower() == text.lower():
            return value
    raise ConfigurationError(f"REDIS_URL: {name} is {' or '.join(words)}, not {text[:30]!r}")
