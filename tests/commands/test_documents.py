"""What the documents say of settings is what is declared; run as a module, this writes it anew."""

import doctest
import re
from pathlib import Path

import pytest

from anyorder import cli, composition
from anyorder.settings.text import table, table_of_members

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path.stem: path for path in sorted(DOCS.glob("*.md"))}
MEMBERS = re.compile(r"(<!-- members: (\w+) -->\n).*?(<!-- /members: \2 -->)", re.DOTALL)
MARKED = re.compile(r"(<!-- settings: (\w+) -->\n).*?(<!-- /settings: \2 -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """Return a page with the table of each verb, and of each family's members, that it marks a place for."""
    text = MEMBERS.sub(lambda m: f"{m[1]}\n{table_of_members(composition.families()[m[2]])}\n\n{m[3]}", text)
    return MARKED.sub(lambda m: f"{m[1]}\n{table(cli.kind_of(m[2]), composition.chosen(m[2]))}\n\n{m[3]}", text)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_its_table_in_a_document(verb):
    marked = [m[2] for path in PAGES.values() for m in MARKED.finditer(path.read_text())]
    assert marked.count(verb) == 1


@pytest.mark.parametrize("family", ["factorization", "tokenizer"])
def test_the_settings_of_every_member_have_their_table_in_a_document(family):
    marked = [m[2] for path in PAGES.values() for m in MEMBERS.finditer(path.read_text())]
    assert marked.count(family) == 1


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_of_the_declaration(page):
    text = PAGES[page].read_text()
    assert with_tables(text) == text


def test_the_page_on_settings_does_what_it_shows():
    blocks = re.findall(r"```python\n(.*?)```", PAGES["adding-a-setting"].read_text(), re.DOTALL)
    shown = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "adding-a-setting", None, 0)
    assert len(shown.examples) >= 10
    assert doctest.DocTestRunner().run(shown).failed == 0


if __name__ == "__main__":
    for path in PAGES.values():
        path.write_text(with_tables(path.read_text()))
