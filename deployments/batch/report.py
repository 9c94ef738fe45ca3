"""The report of a job: what the output has as a whole, and what this run cost.

It is counted from the parts themselves, so that after any number of interruptions it says what is
there: `_report.json` for programs, `_report.html` for people. The page is `report.html.j2`.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from acoustic import __version__
from acoustic.resources import snapshot
from deployments.batch.job_options import JobOptions
from deployments.batch.parts import read_columns
from deployments.batch.plan import Plan
from deployments.batch.progress import Totals
from deployments.batch.storage import open_filesystem, write_atomically

JSON_FILE, HTML_FILE = "_report.json", "_report.html"
COLUMNS = ("id", "top_genre", "error_code", "needs_review")


def write_report(options: JobOptions, plan: Plan, totals: Totals) -> dict[str, Any]:
    """Count the output, write both files and return the report.

    Args:
        options: options of the job.
        plan: plan of the job.
        totals: totals of this run.
    """
    report = {
        "acousticsense": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "effort": options.request.effort,
        **_count(options),
        "run": _run(plan, totals),
        "resources": snapshot(),
    }
    filesystem, root = open_filesystem(options.out, options.storage)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    write_atomically(filesystem, f"{root}/{JSON_FILE}", text.encode())
    write_atomically(filesystem, f"{root}/{HTML_FILE}", to_html(report).encode())
    return report


def to_text(report: dict[str, Any]) -> str:
    """A few lines for the terminal."""
    run = report["run"]
    share = f"{report['review_share']:.0%} of the answers for review"
    lines = [f"{report['n_rows']} rows, {report['n_errors']} errors, {share}"]
    lines += [f"  {genre}: {n}" for genre, n in report["genres"].items()]
    lines += [f"  error {code}: {n}" for code, n in report["errors"].items()]
    slowest = f", slowest stage {run['slowest_stage']}" if run["slowest_stage"] else ""
    lines.append(
        f"this run: {run['n_files']} files in {run['elapsed_s']} s, {run['files_per_s']} files/s, "
        f"{run['read_bytes'] / 1e6:.1f} of {run['size_bytes'] / 1e6:.1f} MB read{slowest}"
    )
    return "\n".join(lines)


def to_html(report: dict[str, Any]) -> str:
    """The report as a page that loads no other file.

    Args:
        report: result of `write_report`.
    """
    # imported here, because only the extra for batch jobs installs it
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("deployments.batch", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = "{:,}".format
    environment.filters["duration"] = format_duration
    return environment.get_template("report.html.j2").render(report=report)


def format_duration(seconds: float) -> str:
    """Text of a duration in its two largest units, e.g. "3.2 s", "1 min 5 s", "2 h 10 min"."""
    # rounded first: 59.96 s is one minute, not "60.0 s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def format_size(n_bytes: int) -> str:
    """Text of a size in the largest unit that leaves one digit in front of the point.

    >>> format_size(1_234_567)
    '1.2 MB'
    """
    size, units = float(n_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return (
        f"{size:.0f} {units[0]}"
        if units[0] == "bytes" or size >= 99.5
        else f"{size:.1f} {units[0]}"
    )


def count(n: int, noun: str) -> str:
    """A number with its noun: "1 file", "2,000 files"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _count(options: JobOptions) -> dict[str, Any]:
    genres: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    n_rows = n_review = 0
    for _, table in read_columns(options.out, options.storage, COLUMNS):
        n_rows += len(table)
        for row in table.to_pylist():
            if row["error_code"]:
                errors[row["error_code"]] += 1
            else:
                genres[row["top_genre"]] += 1
                n_review += str(row["needs_review"]).lower() == "true"
    n_answers = sum(genres.values())
    return {
        "n_rows": n_rows,
        "n_errors": sum(errors.values()),
        "review_share": round(n_review / n_answers, 4) if n_answers else 0.0,
        "genres": dict(genres.most_common()),
        "errors": dict(errors.most_common()),
    }


def _run(plan: Plan, totals: Totals) -> dict[str, Any]:
    slowest, steady = totals.stage_s.most_common(1), totals.steady_files_per_s
    return {
        "n_listed": plan.n_listed,
        "n_finished_before": plan.n_finished,
        "n_files": totals.n_files,
        "n_errors": totals.n_errors,
        "elapsed_s": round(totals.elapsed_s, 1),
        "files_per_s": round(totals.n_files / max(totals.elapsed_s, 1e-9), 2),
        "steady_files_per_s": None if steady is None else round(steady, 2),
        "read_bytes": totals.read_bytes,
        "size_bytes": totals.size_bytes,
        "stage_s": {name: round(value, 2) for name, value in totals.stage_s.items()},
        "slowest_stage": slowest[0][0] if slowest else None,
    }
