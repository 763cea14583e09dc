"""What a study's settings mean."""

import pytest

from anyorder.settings import from_plain
from anyorder.studies.config import StudyConfig


@pytest.mark.parametrize(
    ("head", "weight"), [({}, 0.0), ({"distribution": "ordinal"}, 0.0), ({"expected_l1": 0.3}, 0.3)]
)
def test_nothing_is_added_to_the_likelihood_unless_asked_for(head, weight):
    assert from_plain(StudyConfig, {"head": head}).head.expected_l1 == weight
