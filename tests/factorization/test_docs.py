"""What the documents say about factorizations holds."""

import re
import sys
from pathlib import Path

from anyorder.factorization import FactorizationConfig, families
from anyorder.settings import import_members
from anyorder.testing import check_factorization

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_adds_a_family_by_one_short_file(tmp_path, monkeypatch):
    source, check = re.findall(r"```python\n(.*?)```", (DOCS / "adding-a-factorization.md").read_text(), re.DOTALL)
    assert len([line for line in source.splitlines() if line.strip()]) < 40
    (tmp_path / "even_odd.py").write_text(source)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    try:
        import_members(families.__name__, list(families.__path__))
        exec(compile(check, "adding-a-factorization.md", "exec"), {})
        done = check_factorization(FactorizationConfig.named("even_odd").build())
    finally:
        FactorizationConfig.choices.pop("even_odd", None)
        sys.modules.pop(f"{families.__name__}.even_odd", None)
    assert "probabilities_sum_to_one" in done
    assert "samples_follow_the_likelihood" in done


def test_the_table_names_every_family_and_its_exactness():
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (\w+)", (DOCS / "factorizations.md").read_text(), re.MULTILINE)
    table = {name: word for name, word in rows if name in FactorizationConfig.choices}
    words = {True: "exact", False: "bound", None: "none"}
    for name, kind in FactorizationConfig.choices.items():
        assert table[name] == words[kind().build().exact], name
