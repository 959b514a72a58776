"""`facegen app`: a web page on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from facegen.cli import device_option


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True, help="Port to listen on.")
@click.option("--password", envvar="FACEGEN_PASSWORD", show_envvar=True, help="What visitors must know.")
@click.option(
    "--share", is_flag=True, help="Also publish the page through gradio's servers, which see all photos then."
)
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
@click.option(
    "--export-space",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a Hugging Face Space of the page into a folder, and serve nothing.",
)
@device_option
def command(
    host: str,
    port: int,
    password: str | None,
    share: bool,
    open_browser: bool,
    export_space: Path | None,
    device: str | None,
) -> None:
    """Open a web page where one drops a photo and moves a slider.

    The page is on this machine alone, needs no internet, and sends nothing away. Ctrl-C ends it. Needs
    pip install "facegen[app]".

    \b
    Example:
      facegen app
      facegen app --host 0.0.0.0 --password SECRET
      facegen app --export-space space
    """
    from facegen.app.serve import is_loopback, serve
    from facegen.status import say

    if export_space is not None:
        _export(export_space)
        return

    if share or not is_loopback(host):
        where = "Anybody who knows its address" if share else "Every machine that reaches this one"
        say(f"{where} can open the page. Photos travel unencrypted unless a proxy adds TLS.", err=True)
        if not password:
            if not sys.stdin.isatty():
                raise click.UsageError("others can reach this page: give it a password with --password")
            password = click.prompt("Password for visitors", hide_input=True)
    serve(host=host, port=port, password=password, share=share, open_browser=open_browser, device=device)


def _export(folder: Path) -> None:
    from facegen.app.space import export_space
    from facegen.status import say

    for path in export_space(folder):
        say(str(path))
    say("Make a Space with the SDK gradio at https://huggingface.co/new-space, and push these files to it.")
