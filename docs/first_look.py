# %% [markdown]
# # A first look: one joint, many ways to write it
#
# A policy models p(code | observation), where a *code* is an action chunk as tokens. This script needs no data,
# no robot and no GPU: the joints are small enough to be enumerated. Run it as a script, or cell by cell.

# %%
import torch

from anyorder.factorization import FactorizationConfig, Joint
from anyorder.networks import SlotNetwork, TransformerConfig
from anyorder.testing.toy import ChainNetwork, TabularNetwork, context, mean_jumps


def family(name, **settings):
    """Return a factorization by its name."""
    return FactorizationConfig.named(name, **settings).build()


# %% [markdown]
# ## Likelihoods
#
# The network below knows every conditional of a joint over codes of 3 tokens, each of 4 kinds. Autoregression and
# masked diffusion ask it different questions and come to the same answer. Masked diffusion's is a bound with a
# little noise. `independent` does not come to it: its tokens do not see each other.

# %%
network = TabularNetwork(length=3, vocab_size=4)
truth = network.log_joint(network.codes)
entropy = float(-(truth.exp() * truth).sum())
nats = {}
for name in ("autoregressive", "masked_diffusion", "independent"):
    joint = Joint(family(name), network, context(1))
    nats[name] = float(-(truth.exp() * joint.log_prob(network.codes, samples=1000).value).sum())
    print(f"{name:17} {nats[name]:.4f} nats a code; the entropy of the joint is {entropy:.4f}")

# %% [markdown]
# ## Samples
#
# A sample says what it cost in network calls. Where the factorization can express the joint, 20,000 codes follow
# it: the total variation between them is small.

# %%
distance = {}
for name in nats:
    drawn = Joint(family(name), network, context(1)).sample(rows=20_000)
    cell = (drawn.chunk * torch.tensor([16, 4, 1])).sum(1)
    share = torch.bincount(cell, minlength=64).double() / len(cell)
    distance[name] = float((share - network.joint.flatten()).abs().sum() / 2)
    print(f"{name:17} {drawn.calls} calls, total variation {distance[name]:.3f}")

# %% [markdown]
# ## What fewer calls cost
#
# Tokens that one call reveals do not see each other. The chain below has 32 tokens and jumps 3.1 times in a code.
# Masked diffusion with few calls jumps too often; one token a call is exact.

# %%
chain = ChainNetwork()
jumps = {}
for calls in (4, 8, 16, 32):
    drawn = Joint(family("masked_diffusion", steps=calls), chain, context(1)).sample(rows=500)
    jumps[calls] = mean_jumps(drawn.chunk)
    print(f"{calls:2} calls: {jumps[calls]:5.2f} jumps; the chain itself: {chain.jumps:.2f}")

# %% [markdown]
# ## A network that learns
#
# The same small transformer learns codes of such a chain, of 8 tokens. Both families come near the
# chain's own negative log-likelihood of new codes. Autoregression's is exact, masked diffusion's an upper bound.

# %%
chain = ChainNetwork(length=8)
codes = Joint(family("masked_diffusion"), chain, context(1)).sample(rows=4096).chunk
training, held_out = codes[:3072], codes[3072:]
stays = held_out[:, 1:] == held_out[:, :-1]
steps = torch.where(stays, chain.step[0, 0], chain.step[0, 1])
best = float((torch.tensor(4).log() - steps.log().sum(1)).mean())
learnt = {}
for name in ("autoregressive", "masked_diffusion"):
    torch.manual_seed(0)
    student = SlotNetwork(TransformerConfig(width=32, depth=2, heads=4).build(), length=8, vocab_size=4)
    joint = Joint(family(name), student, torch.zeros(1, 1, 32))
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for _ in range(300):
        code = training[torch.randint(len(training), (64,), generator=joint.generator)]
        loss = joint.family.loss(student, code, joint.rows(64), generator=joint.generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        learnt[name] = float(-joint.log_prob(held_out).value.mean())
    print(f"{name:17} {learnt[name]:.3f} nats a code; the chain itself: {best:.3f}")
