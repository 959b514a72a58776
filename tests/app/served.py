"""Serves the page for the tests, as `facegen app` does, with less to wait for.

Run it as `python served.py '{"KEPT": 5}' --port N`: first constants of the modules, then options.

It cannot reach any other machine: who tries is written down, and refused.
"""

from __future__ import annotations

import json
import signal
import socket
import sys


def stay_here(event: str, arguments: tuple) -> None:
    """Refuse to connect or to ask for the address of another machine, and say so on stderr."""
    if event in {"socket.connect", "socket.sendto"} and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", "::", socket.gethostname()}:
        print(f"OUTSIDE {event} {host}", file=sys.stderr, flush=True)
        raise ConnectionRefusedError(f"{host} is outside")


def main() -> None:
    sys.addaudithook(stay_here)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    changes = json.loads(sys.argv.pop(1))
    from facegen.app import age_tab, page
    from facegen.cli import main as command

    for name, value in changes.items():
        module = page if hasattr(page, name) else age_tab
        getattr(module, name)
        setattr(module, name, value)
    command(["app", *sys.argv[1:]])


if __name__ == "__main__":
    main()
