"""`facegen doctor`: what this machine has."""

from __future__ import annotations

import click


@click.command()
@click.option("--build", is_flag=True, help="Build the CUDA operations now instead of at first use.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(build: bool, as_json: bool) -> None:
    """Show what facegen can use on this machine, and how to get more.

    Reports the GPU, driver, PyTorch, compilers and compiled CUDA operations; memory, disk, weights and the download
    cache; and which optional packages are installed.

    \b
    Example:
      facegen doctor
    """
    from facegen import doctor
    from facegen.status import say
    from facegen.text import json_text

    built = [doctor.build()] if build else []
    findings = [*doctor.examine(), *built]
    if as_json:
        say(*json_text(doctor.summary(findings), indent=2).split("\n"))
        return
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = {True: "+", False: "!", None: " "}[finding.good]
        say(f"{mark} {finding.name:<{width}}  {finding.value}")
    for finding in findings:
        if finding.fix:
            say("", f"To fix {finding.name}: {finding.fix}.")
