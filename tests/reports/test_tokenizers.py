"""The tokenizer page: whole, escaped, without outside references, with its plots."""

import json
import re

import pytest
import torch

from anyorder.reports.tokenizer_tables import error_rows, point_rows, summary_rows, worst_rows
from anyorder.reports.tokenizers import curve_plot, drawable, tokenizer_page
from anyorder.testing.chunks import recorded_like, smooth
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.rate_distortion import RateDistortion, rate_distortion
from anyorder.tokenizers.report import tokenizer_report
from tests.reports.test_html import Page

NAMES = ["<script>alert(1)</script>", "$a_1$", "elbow", "wrist", "roll", "gripper"]
CHOSEN = TokenizerConfig.named("fast", scale=15.0)


@pytest.fixture(scope="module")
def measured():
    fit_to, held_out = recorded_like(200), recorded_like(60, seed=1)
    # Out of range, so that the dimensions with the awkward names are the worst ones.
    held_out[2, 3, 0], held_out[7, 3, 1] = 3.0, -3.0
    settings = [*CHOSEN.sweep(), *TokenizerConfig.named("bins").sweep()]
    refused = TokenizerConfig.named("fast", vocab_size=4)
    episodes = torch.zeros(60)
    curve = rate_distortion([*settings, refused], fit_to, held_out, episodes=episodes)
    return tokenizer_report(CHOSEN.fit(fit_to), held_out, lambda x: 90 * x, NAMES, episodes), curve


def plots(text):
    return re.findall(r"<svg.*?</svg>", text, re.DOTALL)


def test_self_contained(measured):
    report, curve = measured
    text = tokenizer_page(report, CHOSEN, "a < b", curve)
    page = Page(text)
    assert all(target.startswith(("data:", "#")) for target in page.targets)
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(page.ids) == len(set(page.ids))
    references = {target[1:] for target in page.targets if target.startswith("#")}
    assert references | set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)
    assert "a &lt; b" in text


def test_plots_show_the_worst_chunks_and_the_curve(measured):
    report, curve = measured
    worst, rates = plots(tokenizer_page(report, CHOSEN, "", curve))
    for chunk in report.worst:
        assert f"chunk {chunk.index}" in worst
    assert "decoded" in worst
    assert ">chosen: fast scale=15<" in rates
    assert ">bins<" in rates
    assert "registers" not in rates


def test_tables_hold_every_number(measured):
    report, curve = measured
    shown = "\n".join(Page(tokenizer_page(report, CHOSEN, "", curve)).texts)
    for row in (*summary_rows(report), *error_rows(report), *worst_rows(report), *point_rows(curve)):
        assert all(cell in shown for cell in row), row
    assert "Left out: fast scale=22: vocab_size: 4 given" in shown


def test_names_are_escaped_and_no_formulas(measured):
    report, curve = measured
    text = tokenizer_page(report, CHOSEN, "", curve)
    assert "<script>alert" not in text
    assert {chunk.dimension for chunk in report.worst} >= set(NAMES[:2])
    assert NAMES[0] in "".join(Page(text).texts)
    assert re.search(r"<text[^>]*>[^<]*\$a_1\$", plots(text)[0])


def test_numbers_inside(measured):
    report, curve = measured
    text = tokenizer_page(report, CHOSEN, "", curve)
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    numbers = json.loads(found[1])
    assert numbers["settings"]["scale"] == 15
    assert numbers["report"]["worst"][0]["index"] == report.worst[0].index
    assert numbers["report"]["steadiness"]["overlap_rate"] == report.steadiness.overlap_rate
    assert numbers["curve"]["points"][0]["steadiness"]["jitter"] == 0.005
    assert len(numbers["curve"]["points"]) == len(curve.points)


def test_without_curve(measured):
    text = tokenizer_page(measured[0], CHOSEN, "")
    assert len(plots(text)) == 1
    assert "Rate and distortion" not in text


def test_points_without_error_or_bits_are_not_drawn(measured):
    still = smooth(20) * 0
    exact = rate_distortion([CHOSEN], still, still)
    assert exact.points[0].rmse_normalised == 0
    assert drawable(exact.points) == []
    assert curve_plot(exact, CHOSEN) == ""
    both = RateDistortion((*exact.points, *measured[1].points), ())
    assert "<svg" in curve_plot(both, CHOSEN)
    Page(tokenizer_page(measured[0], CHOSEN, "", exact))
