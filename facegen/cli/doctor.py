"""`facegen doctor`: what this machine has."""

from __future__ import annotations

import click


@click.command()
@click.option("--build", is_flag=True, help="Build the CUDA operations now, not when they are first used.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as JSON.")
def command(build: bool, as_json: bool) -> None:
    """Show what this machine has for facegen, and how to get more.

    GPU, driver, PyTorch, the compilers, and whether the operations that are made faster by CUDA kernels are compiled;
    memory, disk, weights, the cache of downloads, and what may be installed beside facegen.

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
