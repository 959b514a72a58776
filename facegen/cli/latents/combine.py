"""`facegen combine`: latents of several files in one."""

from __future__ import annotations

from pathlib import Path

import click

from facegen.status import say


@click.command()
@click.argument("files", nargs=-1, metavar="FILE|FOLDER...", type=click.Path(path_type=Path))
@click.option("--npzs", metavar="FILES", help="Files separated by commas, as in the original programs.")
@click.option(
    "--outdir", default="out", show_default=True, type=click.Path(path_type=Path), help="Folder for the file."
)
def command(files: tuple[Path, ...], npzs: str | None, outdir: Path) -> None:
    """Write the latents of several files into one file, combined.npz, in the given order. In a folder, 9.npz comes
    before 10.npz.

    Prints which rows come from which file. A combined.npz from an earlier run is replaced.

    \b
    Example:
      facegen combine a/projected_w.npz b/projected_w.npz --outdir out
      facegen combine latents --outdir out
      facegen combine --npzs=a.npz,b.npz,c.npz --outdir out
    """
    from facegen.latents.files import combine_latents, files_in, save_latents

    given = [*files, *_split(npzs or "")]
    if not given:
        raise click.UsageError("name latent files: facegen combine A.npz B.npz")
    target = outdir / "combined.npz"
    paths = [path for name in given for path in files_in(name) if name == path or path.absolute() != target.absolute()]
    if not paths:
        raise click.UsageError(f"the only latent file is {target}, which is the output")
    ws, counts = combine_latents(paths)
    save_latents(target, ws)
    first = 0
    for path, count in zip(paths, counts, strict=True):
        say(f"{path}: " + (f"row {first}" if count == 1 else f"rows {first} to {first + count - 1}"))
        first += count
    say(str(target))


def _split(names: str) -> list[Path]:
    """The files that are named with commas between them; a name may have commas of its own, if it is the only one."""
    if Path(names).is_file():
        return [Path(names)]
    return [Path(name.strip()) for name in names.split(",") if name.strip()]
