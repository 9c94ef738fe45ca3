"""`acousticsense batch SOURCE… --out URI`: the job of `deployments.batch`, with its options."""

from __future__ import annotations

import typer


def batch(context: typer.Context) -> None:
    """Classify folders, object-store prefixes or manifests into a table; see batch --help."""
    from acousticsense.options import quiet_decoders
    from deployments.batch.run import main

    with quiet_decoders():
        code = main(list(context.args), "acousticsense batch")
    raise typer.Exit(code)


SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Every argument goes on to the job's own parser, help included."""
