"""What the package computes, as one JSON file: run it on two commits, and equal files mean equal behavior, bit for bit.

For every family, variant and tokenizer: the losses of 20 training steps, the validation scores, a hash of the saved
weights, the codes of a batch, its likelihood, and what is sampled at three settings. Besides: the table of a small
study, and the laws fitted to the runs of ``docs/scaling-laws``. Nothing is timed.

    python benchmarks/behavior.py outputs/before      # on one commit
    python benchmarks/behavior.py outputs/after       # on another
    diff outputs/before/behavior.json outputs/after/behavior.json

Further words choose parts, by what their names contain: ``python benchmarks/behavior.py outputs/after masked study``.
"""

import hashlib
import json
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import torch
from safetensors.torch import load_file

from anyorder import cli
from anyorder.factorization import TokenFactorization
from anyorder.policies import AnyOrderPolicy
from anyorder.training.config import DatasetConfig
from anyorder.training.data import load_chunks

torch.set_num_threads(1)

FAMILIES = """
analog_bits autoregressive block_diffusion chunked embedding_diffusion flow_matching gaussian_diffusion independent
masked_diffusion mip next_frequency next_scale regression score_entropy uniform_diffusion
"""
VARIANTS = """
autoregressive factorization.orders=fixed factorization.k=4 factorization.jitter=uniform
autoregressive factorization.orders=fixed factorization.k=3 factorization.ensemble=true factorization.jitter=uniform
autoregressive factorization.orders=random
autoregressive factorization.orders=annealed
autoregressive factorization.queries=true
autoregressive factorization.orders=random repeats=4
masked_diffusion repeats=4
autoregressive factorization.token_masking=0.5 network.dropout=0.1 network.attention_dropout=0.1 observation_noise=0.1
autoregressive n_obs_steps=2 relative_actions=true context_dropout=0.2 guidance=2
masked_diffusion factorization.sampler=ancestral factorization.steps=4 factorization.schedule=cosine
masked_diffusion factorization.sampler=remasking factorization.steps=6
masked_diffusion factorization.sampler=first_hitting
masked_diffusion factorization.sampler=confidence factorization.steps=3
masked_diffusion factorization.sampler=spread factorization.steps=2 factorization.sampling_schedule=maskgit
masked_diffusion factorization.sampler=threshold factorization.threshold=0.5
masked_diffusion factorization.loss=bernoulli factorization.schedule=polynomial
block_diffusion factorization.block_size=2 factorization.sampler=first_hitting
block_diffusion factorization.block_size=3 factorization.sampler=remasking factorization.steps=5
uniform_diffusion factorization.steps=3 factorization.auxiliary=0.0
gaussian_diffusion factorization.prediction=v_prediction factorization.scheduler=dpm_solver
mip factorization.weighted=true
regression factorization.norm=l2
"""
USES = {"next_scale": "multiscale_vq", "next_frequency": "dct"}
"""Tokenizers of the families that do not take any."""
TOKENIZERS = "bins bspline dct fast multiscale_vq registers residual_vq"
STUDY = """
families:
  ar: {type: autoregressive}
  ar_fixed: {type: autoregressive, orders: fixed, k: 4}
  masked: {type: masked_diffusion}
grids:
  main: {families: [ar, ar_fixed, masked], width: [16], unique_tokens: [200, 500], epochs: [1, 3], dropout: [0.0, 0.1]}
"""


def hashed(*tensors: torch.Tensor) -> str:
    """Return the first 16 digits of the SHA-256 of some tensors' values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def run(*words: str) -> None:
    """Run a command of ``anyorder``, which has to succeed."""
    assert cli.main(list(words)) == 0, words


def behavior_of(folder: Path, data: Path, batch: dict[str, torch.Tensor], *words: str) -> dict[str, object]:
    """Train a policy for 20 steps and return what it computes."""
    fixed = ("steps=20", "log_freq=1", "eval_freq=10", "batch_size=16", "chunk_size=8", "eval_samples=4", "device=cpu")
    run("train", f"dataset.root={data}", f"output_dir={folder}", *fixed, "n_action_steps=4", "progress=false", *words)
    times = ("seconds", "_s", "samples_per", "time", "crc32")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    said = [{k: v for k, v in line.items() if not any(word in k for word in times)} for line in lines]
    saved = folder / "checkpoints" / "last" / "pretrained_model"
    weights = load_file(saved / "model.safetensors")
    policy = AnyOrderPolicy.from_pretrained(saved)
    policy.eval()
    batch = dict(batch)
    moments = policy.config.n_obs_steps
    if moments == 1:
        batch["observation.state"] = batch["observation.state"][:, -1]
        batch["observation.environment_state"] = batch["observation.environment_state"][:, -1]
    encode = policy.codec.encode if hasattr(policy, "codec") else policy.chunk
    found: dict[str, object] = {
        "metrics": said,
        "weights": hashed(*(weights[name] for name in sorted(weights))),
        "parameters": len(weights),
        "code": hashed(encode(batch)),
    }
    with torch.no_grad():
        loss, _ = policy(batch, reduction="none", generator=torch.Generator().manual_seed(5), progress=0.5)
    found["loss"] = loss.tolist()
    if isinstance(policy.factorization, TokenFactorization):
        likely = policy.log_prob(batch, generator=torch.Generator().manual_seed(6), samples=3)
        found["log_prob"] = likely.value.tolist()
    seen = {k: v for k, v in batch.items() if k != "action"}
    for temperature, nucleus in ((0.0, 1.0), (1.0, 1.0), (0.7, 0.8)):
        if policy.factorization.draws_tokens:
            policy.config.temperature, policy.config.nucleus = temperature, nucleus
        policy.manual_seed(7)
        found[f"actions at {temperature}, {nucleus}"] = hashed(policy.predict_action_chunk(seen))
    return found


def study_of(out: Path, data: Path) -> list[dict[str, object]]:
    """Run a small study and return its table."""
    (out / "study.yaml").write_text(STUDY)
    held = ("dataset.validation_fraction=0.34", "dataset.test_fraction=0.34", "evaluation.chunks=16", "workers=1")
    run("study", "run", f"study={out / 'study.yaml'}", f"dataset.root={data}", f"out={out / 'study'}", *held)
    run("study", "collect", f"out={out / 'study'}")
    table = parquet.read_table(out / "study" / "runs.parquet").to_pylist()
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in table]


def laws_of(folder: Path, loss: str) -> dict[str, object]:
    """Fit the laws of two families to the published runs and return ``laws.json``."""
    families = ("bootstrap=100", "families=[ar,masked]", f"out={folder}")
    run("fit", "runs=docs/scaling-laws/runs.parquet", f"loss={loss}", *families)
    laws = json.loads((folder / "laws.json").read_text())
    return {k: v for k, v in laws.items() if k not in ("sha256", "version", "made")}


def main(out: Path, *words: str) -> None:
    """Write ``behavior.json`` into a new folder: all parts, or those whose names contain one of the words."""

    def wanted(part: str) -> bool:
        return not words or any(word in part for word in words)

    data = out / "lift"
    run("record", "env=so101_lift", "episodes=6", f"root={data}")
    chunks, _ = load_chunks(DatasetConfig(str(data), validation_fraction=0.0), 8, 2)
    batch = chunks.batch(torch.arange(0, chunks.frames, chunks.frames // 8))
    found: dict[str, object] = {}
    chosen = [[f"factorization={name}", f"tokenizer={USES.get(name, 'fast')}"] for name in FAMILIES.split()]
    for line in VARIANTS.strip().splitlines():
        name, *changes = line.split()
        chosen.append([f"factorization={name}", "tokenizer=fast", *changes])
    for tokenizer in TOKENIZERS.split():
        quick = ["tokenizer.steps=100"] if tokenizer == "registers" else []
        for name in ("autoregressive", "masked_diffusion"):
            chosen.append([f"factorization={name}", f"tokenizer={tokenizer}", *quick])
    for overrides in chosen:
        part = " ".join(overrides)
        if wanted(part) and part not in found:
            found[part] = behavior_of(out / f"run{len(found)}", data, batch, *overrides)
    if wanted("study"):
        found["study"] = study_of(out, data)
    for loss in ("loss_final", "loss_best"):
        if wanted("laws"):
            found[f"laws of {loss}"] = laws_of(out / f"fit_{loss}", loss)
    text = json.dumps(found, indent=1, sort_keys=True, default=str).replace(str(out), "OUT")
    (out / "behavior.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    print(f"{out / 'behavior.json'}: {len(found)} parts, sha256 {digest}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
