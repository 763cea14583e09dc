import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import Slots
from anyorder.factorization.chain import shifted_slots
from anyorder.networks import SlotNetwork, TransformerConfig
from anyorder.settings import from_plain


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SlotNetwork(TransformerConfig(16, 3, 4).build(), length=6, vocab_size=9).double().eval()


def tokens(rows=2):
    return torch.randint(9, (rows, 6), generator=torch.Generator().manual_seed(1))


def context(rows=2):
    return torch.randn(rows, 3, 16, generator=torch.Generator().manual_seed(2)).double()


def left_to_right_slots(network, codes):
    return shifted_slots(network, codes, torch.arange(6).expand_as(codes))


def test_only_the_first_slots_are_kept_where_asked(network):
    slots = left_to_right_slots(network, tokens())
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    _, part = network(slots, network.prefill(context()), causal, keep=2)
    first = Slots(*(field[:, :2] for field in slots))
    _, direct = network(first, network.prefill(context()), causal[:2, :2])
    assert part.read == direct.read == 5
    for ours, theirs in zip(part.keys, direct.keys, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_attention_dropout_acts_in_training_only():
    torch.manual_seed(0)
    trunk = TransformerConfig(16, 1, 2, attention_dropout=0.5).build()
    x = torch.randn(1, 4, 16)
    assert not torch.equal(trunk(x, trunk.prefill(x))[0], trunk(x, trunk.prefill(x))[0])
    trunk.eval()
    assert torch.equal(trunk(x, trunk.prefill(x))[0], trunk(x, trunk.prefill(x))[0])


def test_cached_equals_uncached(network):
    slots = left_to_right_slots(network, tokens())
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    answer, _ = network(slots, network.prefill(context()), causal)
    cache, steps = network.prefill(context()), []
    for i in range(6):
        one, cache = network(Slots(*(field[:, i : i + 1] for field in slots)), cache)
        steps.append(one.logits)
    torch.testing.assert_close(torch.cat(steps, 1), answer.logits, rtol=0, atol=1e-12)


def test_no_slot_reads_what_it_may_not_see(network):
    slots = left_to_right_slots(network, tokens(1))
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    x = torch.randn(1, 6, 16).double().requires_grad_()
    features, _ = network.trunk(x, network.prefill(context(1)), causal)
    for i in range(6):
        (gradient,) = torch.autograd.grad(features[0, i].sum(), x, retain_graph=True)
        seen = gradient[0].abs().sum(-1) > 0
        assert seen.tolist() == causal[i].tolist()
    assert slots.tokens[0, 0] == 10  # START


def test_masked_slots_do_not_leak_the_token_they_hide(network):
    hidden = tokens(1)
    positions = torch.arange(6).expand(1, 6)
    masked = hidden.clone()
    masked[0, 2] = 9  # MASK
    slots = Slots(masked, positions, positions)
    answer, _ = network(slots, network.prefill(context(1)))
    visible_changed = masked.clone()
    visible_changed[0, 4] = (visible_changed[0, 4] + 1) % 9
    other, _ = network(Slots(visible_changed, positions, positions), network.prefill(context(1)))
    assert not torch.allclose(answer.logits[0, 2], other.logits[0, 2])  # slots do see each other


def test_cache_rows_can_be_selected_and_repeated(network):
    slots = left_to_right_slots(network, tokens())
    first = Slots(*(field[:, :1] for field in slots))
    cache = network.prefill(context())
    rows = torch.tensor([1, 0, 1])
    direct, _ = network(Slots(*(field[rows] for field in first)), cache.select(rows))
    torch.testing.assert_close(direct.logits, network(first, cache)[0].logits[rows], rtol=0, atol=1e-12)


@pytest.mark.parametrize("setting", [{"width": 10}, {"depth": 0}, {"dropout": 1.0}, {"heads": 0}])
def test_bad_sizes_are_refused(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=rf"^network\.{name}: "):
        from_plain(TransformerConfig, setting, "network")
    with pytest.raises(ConfigError, match=rf"^{name}: "):
        TransformerConfig(**setting)
