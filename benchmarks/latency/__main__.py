"""The command line of the latency suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from s2svos_engines.errors import UserError

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="JSON lines; bundles that are in it are left out.")],
    bundle: Annotated[
        list[Path] | None, typer.Option(help="May be repeated. Default: the one that ships.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Networks for the PyTorch peers, one a bundle; default: its graphs."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="3 minutes for all bundles.")] = False,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="For all bundles. Default: 540 for each.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: one a core.")] = None,
    video: Annotated[Path | None, typer.Option(help="Decoded end to end. Default: drawn.")] = None,
) -> None:
    """Measure; every bundle's variants take turns, so that ratios are inside one run."""
    import s2svos
    from benchmarks.latency.records import append, measured
    from benchmarks.latency.suite import Plan, measure
    from s2svos.shipped import bundle_path

    bundles = [bundle_path(one) for one in bundle] if bundle else [bundle_path()]
    checkpoints = [*(checkpoint or []), *[None] * (len(bundles) - len(checkpoint or []))]
    if len(checkpoints) > len(bundles):
        raise UserError("There are more checkpoints than bundles", "give each bundle at most one")
    each = (seconds or (170 if quick else 540 * len(bundles))) / len(bundles)
    plan = Plan.quick(each, threads) if quick else Plan.full(each, threads)
    done = measured(out)
    for path, weights in zip(bundles, checkpoints, strict=True):
        if s2svos.load(path).bundle.sha256 in done:
            typer.echo(f"{path} is in {out} already.", err=True)
            continue
        append(out, measure(path, plan, checkpoint=weights, video=video))


@app.command()
def render(
    results: Annotated[Path, typer.Argument(help="What run wrote.")],
    out: Annotated[Path | None, typer.Option(help="Folder. Default: beside the results.")] = None,
    readme: Annotated[
        Path | None, typer.Option(help="Also put the short table between this file's marks.")
    ] = None,
) -> None:
    """Draw tables and plots."""
    from benchmarks.latency.plots import draw
    from benchmarks.latency.records import read
    from benchmarks.latency.tables import document, into_readme

    bundles = read(results)
    folder = out or results.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw(bundles, folder)
    (folder / "latency.md").write_text(document(bundles, pictures))
    typer.echo(folder / "latency.md")
    if readme:
        into_readme(bundles, readme)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="What run wrote.")],
    after: Annotated[Path, typer.Argument(help="What it wrote later, on the same machine.")],
    threshold: Annotated[
        float, typer.Option(min=1.0, help="Slower by less is no regression.")
    ] = 1.1,
) -> None:
    """Tell a regression from noise; exit code 1 if there is one."""
    from benchmarks.latency.comparison import compare_results
    from benchmarks.latency.records import read
    from benchmarks.report import print_table

    changes = compare_results(read(before), read(after))
    if not changes:
        raise UserError(f"{before} and {after} have no row in common", "measure the same presets")
    regressions = [change for change in changes if change.is_regression(threshold)]
    rows = [
        [
            *(change.name, f"{change.ratio:.3f}", f"{change.low:.3f} to {change.high:.3f}"),
            "slower" if change.is_regression(threshold) else "",
        ]
        for change in changes
    ]
    title = "after / before, of medians, each by its run's matrix product"
    print_table(title, ["", "ratio", "98 % interval", ""], rows)
    if regressions:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; mistakes end in one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.secho(f"benchmarks.latency: {error}", fg=typer.colors.RED, err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("benchmarks.latency: stopped.", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
