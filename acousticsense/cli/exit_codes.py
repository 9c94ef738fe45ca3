"""What the exit codes of all commands mean: one table, in `--help` and in docs/cli.md."""

from __future__ import annotations

EXIT_CODES = {
    0: "done",
    1: "a file failed; the service is not ready (serve); a file is stale (k8s render --check)",
    2: "options, settings, input or model cannot be used; nothing was done",
    3: "more error rows than --max-error-rate (batch)",
    4: "the job failed; --resume continues it (batch)",
    130: "interrupted",
}

# \b keeps the lines of a paragraph apart
HELP = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in EXIT_CODES.items())


def help_end(*lines: str) -> str:
    """End of a command's help text: examples, one command a line, and the exit codes."""
    return f"{examples(*lines)}\n\n{HELP}"


def examples(*lines: str) -> str:
    """Examples for the end of a command's help text, one command a line."""
    return "\b\nExamples:\n" + "\n".join(f"  acousticsense {line}" for line in lines)
