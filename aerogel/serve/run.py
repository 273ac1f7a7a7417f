"""Start a server: check what can be checked, bind the socket, then serve in this process or in several."""

from __future__ import annotations

from aerogel.errors import UsageError, require
from aerogel.serve.keys import KEY_VARIABLE, TOKEN_VARIABLE, read_keys
from aerogel.serve.settings import Settings
from aerogel.serve.sockets import address, bind, bind_port, release

__all__ = ["run"]


def run(settings: Settings) -> int:
    """Serve until a signal; returns the exit status.

    Raises:
        UsageError: a setting, a key file or a model's path is wrong, or the address is in use.
        MissingExtraError: the extra `serve` is not installed.
    """
    for module in ("starlette", "uvicorn", "httptools", "orjson", "prometheus_client"):
        require(module, "serve")
    from aerogel.serve.log import Log
    from aerogel.serve.pool import named_paths
    from aerogel.serve.process import run_process
    from aerogel.serve.supervisor import Supervisor

    log = Log(settings.log_format)
    settings.check_exposure(bool(read_keys(settings.api_key_file, KEY_VARIABLE)))
    read_keys(settings.admin_token_file, TOKEN_VARIABLE)
    named_paths(settings.models)
    if settings.model_folder is not None and not settings.model_folder.is_dir():
        raise UsageError(f"--model-folder {settings.model_folder} is not a folder")
    sockets = [bind(settings)]
    try:
        if settings.ops_port is not None:
            sockets.append(bind_port(settings.host, settings.ops_port))
        for listening in sockets:
            log.event("listening", url=address(listening, tls=settings.tls_cert is not None))
        if settings.insecure:
            log.event(
                "warning",
                message="everybody who reaches this address may use the server: there is no API key",
            )
        if settings.workers > 1:
            return Supervisor(settings, sockets[0], log).run()
        return run_process(settings, sockets, lambda: None)
    finally:
        release(sockets, settings)
