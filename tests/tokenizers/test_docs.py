"""What the documents say about tokenizers holds."""

import re
from pathlib import Path

from anyorder.testing import check_tokenizer
from anyorder.tokenizers import TokenizerConfig

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-tokenizer.md"


def test_the_documented_tokenizer_passes_the_contract():
    source = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    scope = {"__name__": "strided"}
    try:
        exec(compile(source, "strided.py", "exec"), scope)
        done = check_tokenizer(TokenizerConfig.named("strided"))
    finally:
        TokenizerConfig.choices.pop("strided", None)
    assert "spec_and_weights_restore_it" in done
    assert "bad_chunks_are_refused" in done
