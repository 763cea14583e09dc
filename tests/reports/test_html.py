import json
import re
from html.parser import HTMLParser

import pytest

from anyorder.errors import ConfigError
from anyorder.reports import html as page_module
from anyorder.reports.html import write_report
from tests.reports.fake_runs import write_run, write_video

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Collects what a page points to and checks that its elements close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self._note(attrs)

    def handle_startendtag(self, tag, attrs):
        self._note(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def _note(self, attrs):
        for name, value in attrs:
            if name.split(":")[-1] in ("src", "href"):
                self.targets.append(value)
            if name == "id":
                self.ids.append(value)


def make_runs(folder):
    return [
        write_run(folder / "ar", success=(7, 20)),
        write_run(folder / "masked $a_1$", "masked_diffusion", success=(3, 20)),
        write_run(folder / "<script>alert(1) & $b_1$", "regression", tokens=False),
        write_run(folder / "_seed1", success=(20, 20)),
    ]


@pytest.fixture
def runs(tmp_path):
    return make_runs(tmp_path)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    runs = make_runs(folder)
    for run in runs[:2]:
        write_video(run / "rollout" / "videos" / "episode_0001.mp4")
    return write_report(runs, folder / "out" / "report.html", title="A < B & C")


def test_self_contained(report):
    text = report.read_text()
    page = Page(text)
    assert all(target.startswith(("data:", "#")) for target in page.targets)
    assert not re.search(r"url\((?!#)|@import", text)
    assert sum(target.startswith("data:video/mp4") for target in page.targets) == 2
    assert sum(target.startswith("data:image/png") for target in page.targets) == 1
    assert len(page.ids) == len(set(page.ids))
    references = {target[1:] for target in page.targets if target.startswith("#")}
    assert references | set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)
    assert text.count("<svg") == 4


def test_names_are_escaped(report):
    text = report.read_text()
    assert "<script>alert" not in text
    assert "<title>A &lt; B &amp; C</title>" in text
    assert any("alert(1)" in shown for shown in Page(text).texts)
    assert "<script>" not in report.with_suffix(".md").read_text()


def test_names_are_no_formulas_in_plots(report):
    plots = " ".join(re.findall(r"<svg.*?</svg>", report.read_text(), re.DOTALL))
    for name in ("$a_1$", "$b_1$", "_seed1"):
        assert re.search(rf"<text[^>]*>[^<]*{re.escape(name)}", plots), name


def test_numbers_inside(report):
    text = report.read_text()
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    numbers = json.loads(found[1])
    assert numbers[0]["rollouts"]["successes"] == 7
    assert numbers[2]["name"].startswith("<script>")
    assert numbers[2]["rollouts"] is None


def test_without_rollouts_and_validations(tmp_path):
    folder = write_run(tmp_path / "ar")
    (folder / "metrics.jsonl").unlink()
    text = write_report([folder], tmp_path / "report.html").read_text()
    Page(text)
    assert "No rollouts yet" in text
    assert "<svg" not in text


def test_diverged_run(tmp_path):
    folder = write_run(tmp_path / "ar")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 110, "val_loss": NaN, "val_nll_nats_per_chunk": NaN, "val_nll_nats_per_token": NaN, '
                   '"val_nll_nats_per_value": NaN, "val_nll_standard_error": NaN}\n')  # fmt: skip
    text = write_report([folder], tmp_path / "report.html").read_text()
    numbers = re.search(r'id="numbers">(.*?)</script>', text, re.DOTALL)
    assert numbers is not None
    assert json.loads(numbers[1], parse_constant=pytest.fail)[0]["final"]["loss"] is None


def test_heavy_films_are_linked(runs, tmp_path, monkeypatch):
    write_video(runs[0] / "rollout" / "videos" / "episode_0000.mp4")
    monkeypatch.setattr(page_module, "EMBED_BELOW_BYTES", 10)
    out = write_report(runs[:1], tmp_path / "out" / "report.html")
    (link,) = [target for target in Page(out.read_text()).targets if target.endswith(".mp4")]
    assert link == "../ar/rollout/videos/episode_0000.mp4"
    assert (out.parent / link).is_file()


def test_a_broken_film_costs_only_its_row(runs, tmp_path, caplog):
    folder = runs[0] / "rollout" / "videos"
    folder.mkdir()
    (folder / "episode_0000.mp4").write_bytes(b"no film")
    text = write_report(runs, tmp_path / "report.html").read_text()
    assert "data:image/png" not in text
    assert "episode_0000.mp4" in caplog.text


def test_replaced_whole(runs, tmp_path):
    out = tmp_path / "report.html"
    first = write_report(runs, out).read_bytes()
    assert write_report(runs, out).read_bytes() == first  # nothing in it is random or dated
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["report.html", "report.md"]
    assert "| ar (autoregressive) | 350,592 |" in out.with_suffix(".md").read_text()


@pytest.mark.parametrize("name", ["report", "report.md", "."])
def test_out_must_be_a_page(runs, tmp_path, name):
    with pytest.raises(ConfigError, match=r"output: .*\.html"):
        write_report(runs, tmp_path / name)
