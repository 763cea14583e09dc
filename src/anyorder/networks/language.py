"""Task sentences: a learned vector for each of the dataset's, or a pretrained text encoder's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anyorder.errors import ConfigError, did_you_mean, installed
from anyorder.hub import asking_hub


class TaskTable(nn.Module):
    """One learned vector for every sentence of the dataset.

    Args:
        tasks: the sentences.
        features: numbers a sentence becomes.

    >>> TaskTable(["Lift.", "Push."], 8)(["Push.", "Push."]).shape
    torch.Size([2, 8])
    """

    def __init__(self, tasks: Sequence[str], features: int) -> None:
        super().__init__()
        self.tasks = {task: i for i, task in enumerate(tasks)}
        self.table = nn.Embedding(len(tasks), features)

    def forward(self, tasks: Sequence[str]) -> Tensor:
        """Map sentences (batch) to (batch, features).

        Raises:
            ConfigError: a sentence that was not in the training data.
        """
        for task in tasks:
            if task not in self.tasks:
                allowed = " | ".join(self.tasks) + did_you_mean(task, self.tasks)
                raise ConfigError("task", task, f"{allowed} (encoder.language=text takes any sentence)")
        index = torch.tensor([self.tasks[task] for task in tasks], device=self.table.weight.device)
        vectors: Tensor = self.table(index)
        return vectors


class TaskText(nn.Module):
    """Vectors of a frozen pretrained text encoder, projected.

    The dataset's sentences are encoded once and travel as a buffer, so that a trained policy needs the encoder only
    for sentences it has not seen.

    Args:
        tasks: the dataset's sentences.
        features: numbers a sentence becomes.
        model: name or folder of an encoder that ``transformers`` can load.
        size: numbers that the encoder gives.
    """

    vectors: Tensor

    def __init__(self, tasks: Sequence[str], features: int, model: str, size: int) -> None:
        super().__init__()
        self.model = model
        self.tasks = {task: i for i, task in enumerate(tasks)}
        self.register_buffer("vectors", torch.zeros(len(tasks), size))
        self.project = nn.Linear(size, features)
        self._other: dict[str, Tensor] = {}

    def fit(self) -> None:
        """Encode the dataset's sentences."""
        self.vectors.copy_(encode_text(self.model, list(self.tasks)))

    def forward(self, tasks: Sequence[str]) -> Tensor:
        """Map sentences (batch) to (batch, features).

        Raises:
            ConfigError: a new sentence, and the text encoder cannot be loaded.
        """
        new = sorted({task for task in tasks if task not in self.tasks and task not in self._other})
        if new:
            self._other.update(zip(new, encode_text(self.model, new), strict=True))
        rows = [self.vectors[self.tasks[t]] if t in self.tasks else self._other[t] for t in tasks]
        vectors: Tensor = self.project(torch.stack([row.to(self.vectors) for row in rows]))
        return vectors


@torch.no_grad()
def encode_text(model: str, sentences: list[str]) -> Tensor:
    """Return the mean of the encoder's last states over each sentence's tokens, (sentences, size).

    Raises:
        ConfigError: ``transformers`` is missing or the encoder cannot be loaded.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        allowed = installed("table, or an installed text encoder", "text")
        raise ConfigError("encoder.language", "text", allowed) from error
    allowed = "a text encoder's folder or a name that the hub gives out"
    offline = "without network, the folder of one that was downloaded before"
    with asking_hub(ConfigError, "encoder.text_model", model, allowed, ValueError, offline=offline):
        tokenizer, encoder = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model)
    tokens = tokenizer(sentences, padding=True, return_tensors="pt")
    states = encoder.eval()(**tokens).last_hidden_state
    kept = tokens["attention_mask"].unsqueeze(-1).to(states)
    mean: Tensor = (states * kept).sum(1) / kept.sum(1)
    return mean


def text_size(model: str) -> int:
    """Return how many numbers a text encoder gives.

    Raises:
        ConfigError: as ``encode_text``.
    """
    return encode_text(model, ["size"]).shape[1]
