"""`repo-tools serve`: a static server in the foreground, until it is told to stop."""

import re
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Final

import click

from repo_tools.faults import Faults
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.server import StaticServer, open_server

_STATUS: Final = re.compile(r"([45][0-9]{2}):([0-9]{1,3})%?")


def announce(server: StaticServer, directory: Path) -> None:
    """Say what is served where."""
    if wants_json():
        print_json({"directory": str(directory), "url": server.url})
    else:
        click.echo(f"Serving {directory} at {server.url} (Ctrl-C stops)")


def serve_until_stopped(server: StaticServer) -> None:
    """Serve until Ctrl-C or a termination signal, then close."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this handler interrupts: another thread must call it.
        threading.Thread(target=server.shutdown).start()

    with server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        server.serve_forever(poll_interval=0.05)


def _parse_statuses(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[int, float], ...]:
    found = [_STATUS.fullmatch(value) for value in values]
    shares = tuple((int(match[1]), int(match[2]) / 100) for match in found if match)
    if len(shares) < len(values) or sum(share for _, share in shares) > 1:
        raise click.BadParameter(
            "write a status from 400 to 599 and a percentage, like 503:10; together 100 at most"
        )
    return shares


@click.command(
    "serve",
    epilog="""\b
Examples:
  repo-tools serve /srv/updates
  repo-tools serve /srv/updates --port 9000 --log
  repo-tools serve /srv/updates --bytes-per-second 100000 --close-after 1000000
  repo-tools serve /srv/updates --status 503:20 --only 'targets/*'""",
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port on loopback; 0 takes a free one.",
)
@click.option("--log", "log_requests", is_flag=True, help="Write each request to stderr.")
@click.option(
    "--bytes-per-second",
    type=click.IntRange(min=1),
    metavar="N",
    help="Send no faster than this, all answers together.",
)
@click.option(
    "--latency-ms", type=click.IntRange(0, 600_000), default=0, help="Wait before each answer."
)
@click.option(
    "--close-after",
    type=click.IntRange(min=0),
    metavar="BYTES",
    help="Close the connection after so many bytes of each file.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    callback=_parse_statuses,
    metavar="CODE:PERCENT",
    help="Answer a share of the requests with a status, like 503:10. May be given several times.",
)
@click.option("--no-ranges", is_flag=True, help="Send whole files, whatever part is asked for.")
@click.option(
    "--corrupt-byte",
    type=click.IntRange(min=0),
    metavar="N",
    help="Send byte N of each file, counted from 0, wrong.",
)
@click.option(
    "--only", default="*", metavar="PATTERN", help="Only files like this go wrong: 'targets/*'."
)
@click.option("--seed", type=int, default=0, help="Draw other requests to go wrong.")
def serve(  # noqa: PLR0913 -- one parameter an option
    directory: Path,
    port: int,
    *,
    log_requests: bool,
    bytes_per_second: int | None,
    latency_ms: int,
    close_after: int | None,
    statuses: tuple[tuple[int, float], ...],
    no_ranges: bool,
    corrupt_byte: int | None,
    only: str,
    seed: int,
) -> None:
    """Serve the files in DIRECTORY over HTTP on loopback, for trials.

    Answers range requests, so that interrupted downloads go on where they ended. Hidden files are
    not served and directories are not listed. What goes wrong with bad networks and servers can be
    asked for.
    """
    faults = Faults(
        pattern=only,
        bytes_per_second=bytes_per_second,
        latency_seconds=latency_ms / 1000,
        close_after_bytes=close_after,
        statuses=statuses,
        has_ranges=not no_ranges,
        corrupt_byte=corrupt_byte,
        seed=seed,
    )
    server = open_server(directory, port=port, log_requests=log_requests, faults=faults)
    announce(server, directory)
    serve_until_stopped(server)
