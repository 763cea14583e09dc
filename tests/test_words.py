"""One thing has one name, and a sentence can be read in one breath: in the documents and in the code.

``docs/glossary.md`` says which names. A word joins a list here when the last place that used it is gone.
"""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "RESULTS.md",
    *sorted((ROOT / "benchmarks" / "results").glob("*.md")),
]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

LONGEST = 30
"""Most words in a sentence."""

OLD_WORDS = {
    r"tokenis\w+": "tokenize",
    r"dearest|dearer": "most, more expensive",
    r"in its stead": "instead",
    r"lest": "so that ... not",
    r"so many": "that many, or the number",
    r"sees? whom": "which token sees which",
    r"past moments?": "history",
    r"forwards|forward passes": "calls",
    r"\w+ less (AR|ar)": "NLL(masked) - NLL(AR)",
    r"who (is|are) held out": "held-out episodes",
    r"shall": "is, or has to",
    r"(is|are) told": "is said, or reported",
}
"""Words that pages no longer use outside code, and what they say instead."""

OLD_NAMES = {
    r"factori[sz]e\w*|factorisation\w*": "factorization",
    r"tokenis\w+": "tokenize",
    r"optimised|optimising|optimiser\w*": "optimizer, optimize",
    r"randomis\w+": "randomize",
    r"serialis\w+": "serialize",
    r"quantis\w+": "quantize",
    r"minimis\w+": "minimize",
    r"colours?": "color",
    r"summaris\w+": "summarize",
    r"dearest|dearer": "most_expensive",
    r"recorded_in": "a function of Origin",
    r"nfe": "calls",
}
"""Parts of identifiers that the code no longer uses, and what it says instead."""


def prose(text: str) -> str:
    """Return a page without code, comments, generated tables, links' addresses and the cells of tables."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"<!-- ([\w: -]+) -->.*?<!-- /\1 -->", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "Code", text)
    return "\n".join("" if line.lstrip().startswith("|") else line for line in text.splitlines())


def sentences(text: str) -> list[str]:
    """Return the sentences of a page's prose; a heading and an item of a list end one.

    >>> sentences("# A title\\n\\nOne `a. B` two. Three\\nfour:\\n\\n- five\\n- six. Seven")
    ['A title', 'One Code two.', 'Three four:', 'five', 'six.', 'Seven']
    """
    text = re.sub(r"(?m)^(#+ .*)$", r"\1\n", prose(text))
    text = re.sub(r"(?m)^\s*(#+|[-*]|\d+\.)\s+(.*)$", r"\n\n\2", text)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text)]
    ends = r"(?<=[.!?])[*_)\"']*\s+(?=[*_(\"']*[A-Z0-9])"
    return [sentence for block in blocks for sentence in re.split(ends, block) if sentence]


def parts(name: str) -> list[str]:
    """Return the words of an identifier.

    >>> parts("ActionCodec.fit_nll")
    ['action', 'codec', 'fit', 'nll']
    """
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def pages(paths: list[Path]) -> pytest.MarkDecorator:
    """Return the parameters of a test over files."""
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


@pages(PAGES)
def test_sentences_are_short(path: Path) -> None:
    long = [f"{len(s.split())} words: {s}" for s in sentences(path.read_text()) if len(s.split()) > LONGEST]
    assert not long, "\n".join(long)


@pages(PAGES)
def test_pages_use_no_old_word(path: Path) -> None:
    if path.name == "glossary.md":
        return
    text = re.sub(r"```.*?```|`[^`]*`", " ", path.read_text(), flags=re.DOTALL)
    found = {match[0]: new for old, new in OLD_WORDS.items() for match in re.finditer(rf"(?<!\w)({old})(?!\w)", text)}
    assert not found, found


def test_code_uses_no_old_name() -> None:
    found = []
    for path in SOURCES:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.NAME:
                words = [token.string.lower(), *parts(token.string)]
                found += [
                    f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}, write {new}"
                    for old, new in OLD_NAMES.items()
                    if any(re.fullmatch(old, word) for word in words)
                ]
    assert not found, "\n".join(found)


@pages(PAGES)
def test_links_lead_somewhere(path: Path) -> None:
    for address in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if address.startswith("http"):
            continue
        file, _, place = address.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), address
        if place:
            assert place in anchors(target.read_text()), address


def anchors(text: str) -> set[str]:
    """Return the names by which a page's headings are linked to."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for path in (ROOT / "docs").glob("*.*"):
        if path.suffix in (".md", ".py") and path.name != "index.md":
            assert f"]({path.name})" in index, path.name


@pytest.mark.parametrize(("text", "count"), [("word " * 30 + "end.", 31), ("word `a b c d` " * 3, 6)])
def test_words_of_a_sentence_are_counted(text: str, count: int) -> None:
    (found,) = sentences(text)
    assert len(found.split()) == count
