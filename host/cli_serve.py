"""``chamnet serve``: the REST service and the dashboard; ``chamnet token``: who may use it."""

from __future__ import annotations

import errno
import gc
import json
import socket
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from host import show
from host.cli_options import DEFAULT_DB, Db, Json
from host.errors import HostError, UsageError
from host.logs import FORMS, log_config
from lut_db.store import open_store

if TYPE_CHECKING:
    from fastapi import FastAPI

    from host.api.service import ServiceConfig

app: typer.Typer = typer.Typer(no_args_is_help=True, help="Tokens: who may use a service that serves this database.")

Name = Annotated[str, typer.Argument(help="what or whom it is for")]

BACKLOG = 2048
GRACE_S = 5
"""For answers that are on their way when the service is told to end."""


def serve_command(
    db: Db = DEFAULT_DB,
    host: Annotated[str, typer.Option(help="address to listen on; other than this computer's own needs tokens")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 for any that is free", min=0, max=65535)] = 8420,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="a name that the service is reached by; may be repeated")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(help="an origin whose pages may read it, such as https://nas.example")
    ] = None,
    rate: Annotated[float, typer.Option(help="requests a second for each token; 0 for no limit", min=0)] = 200.0,
    max_upload_mb: Annotated[int, typer.Option(help="largest model or table to be uploaded", min=1)] = 256,
    no_jobs: Annotated[bool, typer.Option("--no-jobs", help="run no searches, measurements or imports")] = False,
    log: Annotated[str, typer.Option(help="print each request: text; or json, one object a line")] = "",
) -> None:
    """Serve look-up tables, predictions and jobs over HTTP, with a dashboard."""
    from host.api.service import ServiceConfig

    if log not in ("", *FORMS):
        raise UsageError(f"--log must be one of {', '.join(FORMS)}, but got {log!r}")
    config = ServiceConfig(
        db, host, port, max_upload_mb, rate=rate, cors=tuple(cors or ()), run_jobs=not no_jobs,
        allowed_hosts=tuple(allow_host or ()),
    )  # fmt: skip
    _check(config)
    with closing(_listen(config)) as listener:
        show.output.print(f"ChamNet serves {db} at {_address(listener)}", highlight=False, soft_wrap=True)
        show.output.file.flush()
        _serve(config, listener, log)


def _check(config: ServiceConfig) -> None:
    """Raises HostError where others could reach the service and no token keeps them out; LutError."""
    with open_store(config.db) as store:
        usable = [token for token in store.tokens.all() if token.revoked_at is None]
    if not config.reads_openly and not usable:
        raise HostError(
            f"a service that others reach must have a token, but {config.db} has none; make one with "
            f"'chamnet token create NAME --db {config.db}'"
        )


def _listen(config: ServiceConfig) -> socket.socket:
    """Raises HostError where the address is taken or none of this computer's."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise HostError(
            f"a service must have an address of its own, but {config.host}:{config.port} {reason}; choose another "
            "--port, or 0 for any"
        ) from None
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _serve(config: ServiceConfig, listener: socket.socket, log: str) -> None:
    """Until the process is told to end, which is no error."""
    import uvicorn

    from host.api.app import create_app

    def build() -> FastAPI:
        app = create_app(config, ending=lambda: server.should_exit)
        gc.collect()
        gc.set_threshold(50_000, 20, 100)
        gc.freeze()  # a batch makes so many objects that all that is loaded would be looked through several times
        return app

    settings = uvicorn.Config(
        build, factory=True, log_config=log_config(log, "INFO" if log else "WARNING"), access_log=False,
        server_header=False, ws="none", proxy_headers=False, timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    server = uvicorn.Server(settings)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


@app.command("create")
def create_command(
    name: Name, db: Db = DEFAULT_DB,
    scope: Annotated[str, typer.Option(help="read; or write, which may read, too, and start jobs")] = "read",
) -> None:  # fmt: skip
    """Make a token and print its secret, which is shown this once."""
    scopes = {"read": ("read",), "write": ("read", "write")}
    if scope not in scopes:
        raise UsageError(f"--scope must be one of {', '.join(scopes)}, but got {scope!r}")
    with open_store(db) as store:
        secret = store.tokens.create(name, scopes[scope])
    print(secret)
    show.errors.print("send it as 'Authorization: Bearer TOKEN'; it cannot be shown again", highlight=False)


@app.command("list")
def list_command(db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """List the tokens, without their secrets."""
    with open_store(db, create=False) as store:
        tokens = store.tokens.all()
    if as_json:
        rows = [
            {"name": t.name, "scopes": list(t.scopes), "created_at": t.created_at, "revoked_at": t.revoked_at,
             "last_used_at": t.last_used_at}
            for t in tokens
        ]  # fmt: skip
        print(json.dumps(rows, indent=1))
        return
    table = Table()
    for heading in ("token", "scopes", "made", "last used", "revoked"):
        table.add_column(heading, overflow="fold")
    for t in tokens:
        table.add_row(t.name, " ".join(t.scopes), *map(_date, (t.created_at, t.last_used_at, t.revoked_at)))
    show.output.print(table)


@app.command("revoke")
def revoke_command(name: Name, db: Db = DEFAULT_DB) -> None:
    """End a token: from now on it opens nothing."""
    with open_store(db, create=False) as store:
        store.tokens.revoke(name)
    show.errors.print(f"token {name} is revoked", highlight=False, markup=False)


def _date(epoch_s: float | None) -> str:
    return "" if epoch_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch_s))
