"""What the documents say about factorizations holds."""

import re
from pathlib import Path

from anyorder.factorization import FactorizationConfig
from anyorder.testing import check_factorization

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documented_family_passes_the_contract():
    text = (DOCS / "adding-a-factorization.md").read_text()
    source = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    scope = {"__name__": "even_odd"}
    try:
        exec(compile(source, "even_odd.py", "exec"), scope)
        done = check_factorization(FactorizationConfig.named("even_odd").build())
    finally:
        FactorizationConfig.choices.pop("even_odd", None)
    assert "probabilities_sum_to_one" in done
    assert "samples_follow_the_likelihood" in done


def test_the_table_names_every_family_and_its_exactness():
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (\w+)", (DOCS / "factorizations.md").read_text(), re.MULTILINE)
    table = {name: word for name, word in rows if name in FactorizationConfig.choices}
    words = {True: "exact", False: "bound", None: "none"}
    for name, kind in FactorizationConfig.choices.items():
        assert table[name] == words[kind().build().exact], name
