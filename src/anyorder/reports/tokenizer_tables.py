"""What a tokenizer costs and loses, as tables for the terminal and in Markdown."""

from rich.console import Group
from rich.text import Text

from anyorder.reports.text_tables import Table, markdown_table, rich_table
from anyorder.tokenizers.rate_distortion import RateDistortion
from anyorder.tokenizers.report import TokenizerReport
from anyorder.tokenizers.steadiness import Steadiness


def report_contents(report: TokenizerReport) -> dict[str, Table]:
    """Return a report's tables by name: of whole chunks, of the errors, of the worst chunks."""
    worst = ("worst chunks", "rmse", "worst dimension", "its largest error")
    return {
        "summary": Table(("", ""), summary_rows(report)),
        "errors": Table(("action error", "rmse", "p99", "max"), error_rows(report)),
        "worst": Table(worst, worst_rows(report)),
    }


def curve_content(curve: RateDistortion | None) -> Table:
    """Return the table of a curve; an empty one where it was not measured."""
    titles = ("tokenizer", "dial", "tokens", "bits", "rmse, normalised", "rmse, action", "overlap", "jitter, nats")
    return Table(titles, [] if curve is None else point_rows(curve))


def summary_rows(report: TokenizerReport) -> list[tuple[str, str]]:
    """Return what concerns whole chunks as pairs of name and value."""
    overlap, entropy = steadiness_cells(report.steadiness)
    return [
        ("tokenizer", report.tokenizer),
        ("chunks", f"{report.chunks}"),
        ("vocabulary", f"{report.vocab_size} ({report.tokens_used} used)"),
        ("length, padding included", f"{report.length}"),
        ("tokens per chunk", f"{report.tokens_mean:.1f} ({report.tokens_min} to {report.tokens_max})"),
        ("values per token", f"{report.values_per_token:.2f}"),
        ("bits per chunk, uniform", f"{report.bits_upper:.1f}"),
        ("bits per chunk, unigram", f"{report.bits_unigram:.1f}"),
        ("rmse, normalised units", f"{report.rmse_normalised:.4g}"),
        ("overlap rate of neighbours", overlap),
        ("jitter entropy, nats per value", entropy),
        ("chunks cut or clamped", "-" if report.lossy_chunks is None else f"{report.lossy_chunks}"),
        ("encode, chunks per s", f"{report.encode_per_s:.0f}"),
        ("decode, chunks per s", f"{report.decode_per_s:.0f}"),
    ]


def steadiness_cells(found: Steadiness | None) -> tuple[str, str]:
    """Return the overlap rate and the jitter entropy, each a dash where it is not known."""
    if found is None:
        return "-", "-"
    rate = "-" if found.overlap_rate is None else f"{found.overlap_rate:.3f}"
    return rate, f"{found.jitter_entropy:.3f}"


def error_rows(report: TokenizerReport) -> list[tuple[str, ...]]:
    """Return the error table's rows: name, rmse, 99th percentile, maximum."""
    return [(e.name, f"{e.rmse:.4g}", f"{e.p99:.4g}", f"{e.max:.4g}") for e in report.errors]


def worst_rows(report: TokenizerReport) -> list[tuple[str, ...]]:
    """Return the worst chunks' rows: number, rmse, worst dimension, its largest error."""
    return [(f"{w.index}", f"{w.rmse:.4g}", w.dimension, f"{w.max:.4g}") for w in report.worst]


def point_rows(curve: RateDistortion) -> list[tuple[str, ...]]:
    """Return the curve's rows: tokenizer, dial, tokens, bits, error in normalised and in action units, steadiness."""
    return [
        (
            p.tokenizer,
            p.label,
            f"{p.tokens_mean:.1f}",
            f"{p.bits_unigram:.1f}",
            f"{p.rmse_normalised:.4g}",
            f"{p.rmse:.4g}",
            *steadiness_cells(p.steadiness),
        )
        for p in curve.points
    ]


def report_markdown(report: TokenizerReport) -> str:
    """Return a report's tables in Markdown."""
    return "\n\n".join(map(markdown_table, report_contents(report).values()))


def curve_markdown(curve: RateDistortion) -> str:
    """Return the curve's table, and the settings left out, in Markdown."""
    lines = "\n".join(f"- left out: {line}" for line in curve.skipped)
    return "\n\n".join(filter(None, [markdown_table(curve_content(curve)), lines]))


def report_tables(report: TokenizerReport) -> Group:
    """Return a report's tables for the terminal, below each other: side by side they need more than 80 characters."""
    return Group(*(rich_table(content, framed=True) for content in report_contents(report).values()))


def curve_table(curve: RateDistortion) -> Group:
    """Return the curve's table for the terminal, and the settings left out below it.

    Steadiness has a table of its own: together they need more than 80 characters.
    """
    lines = [Text(f"left out: {line}", style="yellow") for line in curve.skipped]
    titles, rows = curve_content(curve)
    tables = [
        rich_table(Table([titles[i] for i in part], [[row[i] for i in part] for row in rows]), framed=True)
        for part in ((0, 1, 2, 3, 4, 5), (0, 1, 6, 7))
    ]
    return Group(*tables, *lines)
