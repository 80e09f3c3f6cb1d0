"""serve and mcp: the control protocol for scripts and agents, and its tools for an agent's program."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from qcore.cli.base import RUNS, AsJson, Runs, app, print_json
from qcore.cli.training import signals
from qcore.runs.names import open_folder

POLL_SECONDS = 0.2
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", envvar="QCORE_TOKEN_FILE", help="File that holds the token (default: in the runs folder)."
    ),
]


@app.command()
def serve(
    runs: Annotated[Path, typer.Argument(metavar="[RUNS]", envvar="QCORE_RUNS", help="Folder of the runs.")] = RUNS,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; other machines can reach it unless it is local.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 picks a free one.")] = 8620,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Host name by which clients reach this machine; repeatable."),
    ] = None,
    token_file: TokenFile = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Make a new secret; the old one becomes invalid.")
    ] = False,
    training: Annotated[int, typer.Option("--training", min=1, max=64, help="Runs that train at the same time.")] = 1,
    as_json: AsJson = False,
) -> int:
    """Serve the control protocol over HTTP until Ctrl-C: scripts and agents start, watch and steer runs."""
    # the web server is loaded by who serves: every other command starts without it
    from qcore.server.service import Service, is_loopback
    from qcore.server.token import TOKEN, TOKEN_FILE, open_token, token_setting

    open_folder(runs)
    token = token_setting()[1] or open_token(token_file or runs / TOKEN_FILE, renew=new_token)
    with (
        signals() as received,
        Service(runs, host=host, port=port, token=token, hosts=allow_host or [], training=training) as service,
    ):
        if as_json:
            print_json({"url": service.url, "token_file": str(token.path or ""), "runs": str(service.lab.runs_dir)})
        else:
            print(f"serving {service.lab.runs_dir} at {service.url}/v1; the document is {service.url}/openapi.json")
        # a script that started this waits for the line with the address
        sys.stdout.flush()
        # on stderr: stdout is for the script, and a pipe of it into a log must not hold the secret
        if token.path is None:
            print(f"token        that of the environment variable {TOKEN}", file=sys.stderr)
        else:
            print(f"token file   {token.path} (readable by its owner only)", file=sys.stderr)
        if token.fresh:
            print(f"token        {token.value} (shown once)", file=sys.stderr)
        if not is_loopback(host):
            print(
                "others can reach this address, and HTTP is not encrypted: put a TLS proxy before it", file=sys.stderr
            )
        # a server that died is seen here: its threads cannot end this process
        while not received and service.alive:
            time.sleep(POLL_SECONDS)
        print("stopping; runs in training get a checkpoint …", file=sys.stderr, flush=True)
    return 0 if received else 1


@app.command()
def mcp(
    url: Annotated[
        str, typer.Option("--url", envvar="QCORE_URL", help="Address of qcore serve.")
    ] = "http://127.0.0.1:8620",
    token_file: TokenFile = None,
    runs: Runs = RUNS,
) -> None:
    """Offer the protocol as MCP tools on standard input and output, for an agent's program to start."""
    from qcore.server.token import TOKEN_FILE, read_token, token_setting
    from qcore.server.tools import serve_stdio

    # By the environment or a file, never as an argument: every account of a machine can read those of a process.
    given = token_setting()[1]
    serve_stdio(url, (given or read_token(token_file or runs / TOKEN_FILE)).value)
