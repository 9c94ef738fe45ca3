"""`acousticsense k8s render`: regenerate the rendered manifests and dashboards."""

from __future__ import annotations

from typing import Annotated

import typer

from acousticsense.cli.exit_codes import help_end
from acousticsense.cli.options import readable_errors

app = typer.Typer(help="Kubernetes manifests.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog=help_end("k8s render", "k8s render --check"))
def render(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 where a file is stale.")
    ] = False,
) -> None:
    """Write serveConfigV2 (k8s/serve/) and the dashboards (configs/grafana/) from their sources."""
    from deployments.built_in import checkout
    from deployments.rendering.configuration import render_configuration
    from deployments.rendering.dashboards import render_dashboards
    from deployments.rendering.manifests import render_patches

    with readable_errors():
        checkout("k8s render")
        files = {**render_patches(), **render_dashboards(), **render_configuration()}
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if not check:
            path.write_text(files[path])
        typer.echo(f"{'stale' if check else 'written'}: {path.parent.name}/{path.name}")
    if not stale:
        typer.echo(f"all {len(files)} files are up to date")
    if check and stale:
        raise typer.Exit(1)
