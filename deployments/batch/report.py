"""The report of a job: what the output has as a whole, and what this run cost.

It is counted from the parts themselves, so that after any number of interruptions it says what is
there: `_report.json` for programs, `_report.html` for people, with its picture drawn in SVG.
"""

from __future__ import annotations

import html
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
    """Count the output, write both files, give the report.

    Args:
        options: of the job.
        plan: what was to do.
        totals: what this run did.
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
    """A page that needs nothing but itself."""
    run = report["run"]
    facts = {
        "rows": report["n_rows"],
        "errors": report["n_errors"],
        "answers for review": f"{report['review_share']:.1%}",
        "files of the last run": run["n_files"],
        "files per second": run["files_per_s"],
        "megabytes read": round(run["read_bytes"] / 1e6, 1),
        "megabytes of the files": round(run["size_bytes"] / 1e6, 1),
        "slowest stage": run["slowest_stage"] or "–",
    }
    rows = "".join(f"<tr><th>{_e(k)}</th><td>{_e(v)}</td></tr>" for k, v in facts.items())
    stages = {name: round(value, 1) for name, value in run["stage_s"].items()}
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>AcousticSense batch report</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}}
th{{text-align:left;padding-right:2rem;font-weight:normal;color:#555}}svg{{width:100%}}</style>
<h1>Batch report</h1><p>{_e(report["date"])}, effort {_e(report["effort"])}</p>
<table>{rows}</table>
<h2>Genres</h2>{_bars(report["genres"], "#2f6f9f")}
<h2>Errors</h2>{_bars(report["errors"], "#b5482f") if report["errors"] else "<p>none</p>"}
<h2>Seconds of work per stage, last run</h2>{_bars(stages, "#5f7f3f")}
</html>
"""


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


def _bars(counts: dict[str, Any], colour: str) -> str:
    """A bar chart as SVG, with every number beside its bar."""
    if not counts:
        return "<p>none</p>"
    most = max(counts.values()) or 1
    height = 26
    parts = []
    for i, (name, value) in enumerate(counts.items()):
        y, width = i * height, 420 * value / most
        parts.append(
            f'<text x="170" y="{y + 17}" text-anchor="end">{_e(name)}</text>'
            f'<rect x="180" y="{y + 4}" width="{width:.1f}" height="18" fill="{colour}"/>'
            f'<text x="{186 + width:.1f}" y="{y + 17}">{_e(value)}</text>'
        )
    return (
        f'<svg viewBox="0 0 700 {height * len(counts)}" font-size="14" role="img">'
        f"{''.join(parts)}</svg>"
    )


def _e(value: object) -> str:
    return html.escape(str(value))
