"""Settings of a server: fields of a dataclass, with their meaning, range and default in one place."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from aerogel.errors import UsageError
from aerogel.system.threads import check_threads

__all__ = ["Settings", "about_of", "field_help", "flag", "is_loopback"]


@dataclass(frozen=True)
class About:
    """Meaning of a setting, and the range of a number."""

    meaning: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Settings:
    """Settings of a server. Each is a flag and a key of the configuration file.

    Raises:
        UsageError: a value is out of range, or two contradict each other.
    """

    models: Annotated[
        tuple[str, ...], About("exported folders or .onnx files; NAME=DIR sets the name in requests")
    ] = ()
    host: Annotated[str, About("address to listen on")] = "127.0.0.1"
    port: Annotated[int, About("port to listen on; 0 for a free one", 0, 65535)] = 8080
    uds: Annotated[Path | None, About("Unix socket to listen on instead of an address")] = None
    ops_port: Annotated[
        int | None,
        About(
            "other port of the same address for metrics, admin routes, documentation and the page", 0, 65535
        ),
    ] = None
    workers: Annotated[int, About("processes that share the socket", 1, 256)] = 1
    sessions: Annotated[
        int | None, About("batches at the same time in each process; measured by default", 1, 1024)
    ] = None
    threads: Annotated[int | None, About("threads of each batch; measured by default", 1, 1024)] = None
    batch_tokens: Annotated[
        int | None, About("largest number of tokens in a batch; measured by default", 1, 2**31)
    ] = None
    batch_ms: Annotated[
        float, About("longest time of a batch, in ms, where its size is measured", 1, 1e5)
    ] = 40.0
    queue_tokens: Annotated[
        int, About("requests are refused while this number of tokens is queued", 1, 2**31)
    ] = 131072
    timeout: Annotated[
        float, About("seconds that a request may take, unless it sets its own limit", 0.001, 1e6)
    ] = 30.0
    cache_mb: Annotated[
        int, About("memory for results of texts that come again, in MB; 0 for none", 0, 2**20)
    ] = 0
    max_length: Annotated[
        int | None, About("truncate texts to this number of tokens; the model's limit by default", 1)
    ] = None
    auto_truncate: Annotated[
        bool,
        About("truncate texts beyond the model's limit where a request does not say; false refuses them"),
    ] = True
    max_body_mb: Annotated[float, About("largest body of a request, in MB", 0.001, 4096)] = 16.0
    max_request_tokens: Annotated[
        int | None, About("largest number of tokens in a request; no limit by default", 1)
    ] = None
    max_connections: Annotated[int, About("connections at the same time; more get status 503", 1, 10**6)] = (
        4096
    )
    read_timeout: Annotated[float, About("seconds within which a client must send a request", 0.01, 1e5)] = (
        30.0
    )
    keep_alive: Annotated[float, About("seconds that an idle connection stays open", 0, 1e5)] = 75.0
    drain: Annotated[float, About("seconds for which requests are still accepted after SIGTERM", 0, 3600)] = (
        1.0
    )
    drain_timeout: Annotated[
        float, About("seconds within which accepted requests must end after that", 0, 3600)
    ] = 30.0
    api_key_file: Annotated[Path | None, About("file with one API key a line; also AEROGEL_API_KEY")] = None
    admin_token_file: Annotated[
        Path | None,
        About(
            "file with the token that admin routes need; also AEROGEL_ADMIN_TOKEN. Without one they are off"
        ),
    ] = None
    rate_limit: Annotated[
        float | None, About("requests per second of each API key; no limit by default", 0.001, 1e6)
    ] = None
    insecure: Annotated[bool, About("listen on other addresses than the loopback without an API key")] = False
    cors: Annotated[tuple[str, ...], About("origins of web pages that may call the server; * for all")] = ()
    tls_cert: Annotated[Path | None, About("certificate chain for HTTPS, PEM")] = None
    tls_key: Annotated[Path | None, About("private key of the certificate, PEM")] = None
    model_folder: Annotated[Path | None, About("folder from which admin routes may load models by name")] = (
        None
    )
    snapshot: Annotated[
        bool,
        About("copy model files before serving them, so that changes on disk cannot reach a running server"),
    ] = True
    log_format: Annotated[str, About("text or json")] = "text"
    log_requests: Annotated[bool, About("log each request, not only failures")] = False
    log_texts: Annotated[bool, About("log the bodies of requests; they may be private")] = False

    def __post_init__(self) -> None:
        for item in fields(self):
            about = about_of(item.name)
            value, low, high = getattr(self, item.name), about.low, about.high
            if value is None or low is None:
                continue
            if value < low or (high is not None and value > high):
                limits = f"from {low:g}" + (f" to {high:g}" if high is not None else "")
                raise UsageError(f"{flag(item.name)} {value} is out of range; give a number {limits}")
        if self.threads is not None:
            check_threads(self.threads, "--threads")
        if self.log_format not in ("text", "json"):
            raise UsageError(f"--log-format {self.log_format!r} is not known; known: text, json")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key belong together; give both")
        if not self.models and self.model_folder is None:
            raise UsageError("no model to serve; give folders that `aerogel export` wrote, or --model-folder")
        if self.workers > 1 and (self.port == 0 or self.ops_port is not None) and self.uds is None:
            raise UsageError(
                "--workers needs a fixed --port and no --ops-port; each process answers for itself"
            )

    def check_exposure(self, keys: bool) -> None:
        """Check that the server is not open to other machines by accident.

        Raises:
            UsageError: the address is not the loopback, and there is neither a key nor --insecure.
        """
        if keys or self.insecure or self.uds is not None or is_loopback(self.host):
            return
        raise UsageError(
            f"--host {self.host} is open to other machines and there is no API key; "
            "give --api-key-file, or --insecure to serve everybody"
        )

    def mapping(self) -> Mapping[str, Any]:
        """The settings as values for TOML or JSON; those without a value are left out."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: str(value)
            if isinstance(value, Path)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in found.items()
            if value is not None
        }


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def flag(name: str) -> str:
    """Command line flag of a setting."""
    return f"--{name.replace('_', '-')}"


def about_of(name: str) -> About:
    """What is known of a setting."""
    about: About = get_type_hints(Settings, include_extras=True)[name].__metadata__[0]
    return about


def field_help(name: str) -> str:
    """Meaning of a setting, with its default."""
    default = next(item.default for item in fields(Settings) if item.name == name)
    shown = "" if default is None or default is False or default == () else f" (default: {default})"
    return f"{about_of(name).meaning}{shown}"
