"""From normalized observations to the context tokens that every slot sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from anyorder.errors import ConfigError
from anyorder.factorization.noise import fractions
from anyorder.networks.language import TaskTable, TaskText
from anyorder.networks.points import PointEncoder
from anyorder.networks.transformer import MAX_SIZE
from anyorder.networks.vision import VisionConfig, VisionEncoder, load_imagenet
from anyorder.settings import Settings, setting


@dataclass
class EncoderConfig(Settings):
    """Size of the observation encoder."""

    tokens: int = setting(4, "Context tokens made from the observation.", least=1, most=MAX_SIZE)
    hidden: int = setting(
        512,
        "Width of the MLP. It runs once per observation and the trunk once per slot, so width is cheap here.",
        least=1,
        most=MAX_SIZE,
    )
    depth: int = setting(3, "Hidden layers of the MLP.", least=1, most=MAX_SIZE)
    vision: VisionConfig = setting(VisionConfig, "How cameras are read, where dataset.observations names them.")
    cloud_features: int = setting(64, "Numbers a point cloud (points, 3 or 6) ends in.", least=1, most=MAX_SIZE)
    language: str = setting(
        "auto",
        "How the task's sentence is read: none, table (a learned vector for each sentence of the dataset), text (a "
        "pretrained encoder), auto (table where the dataset has several).",
        among=("auto", "none", "table", "text"),
    )
    language_features: int = setting(32, "Numbers a sentence ends in.", least=1, most=MAX_SIZE)
    text_model: str = setting("sentence-transformers/all-MiniLM-L6-v2", "Name or folder of the text encoder.")


@dataclass(frozen=True)
class ObservationSpec:
    """What a policy observes at each moment.

    Attributes:
        vectors: size of each vector (joints, object poses), by name.
        cameras: (channels, height, width) of each camera, by name.
        clouds: numbers a point has in each point cloud, by name.
        tasks: the sentences it was trained on.
        history: how many moments, the present one included.
        text_size: numbers that the pretrained text encoder gives.
    """

    vectors: Mapping[str, int] = field(default_factory=dict)
    cameras: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    clouds: Mapping[str, int] = field(default_factory=dict)
    tasks: Sequence[str] = ()
    history: int = 1
    text_size: int = 0

    @property
    def names(self) -> list[str]:
        """Names of all observations."""
        return [*self.vectors, *self.cameras, *self.clouds]


class ObservationEncoder(nn.Module):
    """Turns each observation into numbers, and all of them together, by one MLP, into context tokens.

    Together, since where the gripper is *relative* to an object needs both, whether they come as numbers or pictures.

    Args:
        spec: what is observed.
        width: the trunk's width.
        config: sizes; ``language`` is no longer ``auto``.
    """

    def __init__(self, spec: ObservationSpec, width: int, config: EncoderConfig) -> None:
        super().__init__()
        if not spec.names:
            raise ConfigError("observation features", [], "at least one, as observation.state")
        self.spec = spec
        self.config = config
        vision = config.vision
        self.cameras = nn.ModuleDict()
        for name, (channels, height, across) in sorted(spec.cameras.items()):
            wanted = vision.resize or (height, across)
            if self._reader(name) not in self.cameras:
                self.cameras[self._reader(name)] = VisionEncoder(channels, (wanted[0], wanted[1]), vision)
        # What stands for a camera that is not there.
        self.missing = nn.ParameterDict({key(name): torch.zeros(vision.features) for name in spec.cameras})
        self.clouds = nn.ModuleDict(
            {key(name): PointEncoder(size, config.cloud_features) for name, size in spec.clouds.items()}
        )
        self.task: TaskTable | TaskText | None = None
        if config.language == "table":
            self.task = TaskTable(spec.tasks, config.language_features)
        elif config.language == "text":
            self.task = TaskText(spec.tasks, config.language_features, config.text_model, spec.text_size)
        size = sum(spec.vectors.values())
        size += len(spec.cameras) * vision.features + len(self.clouds) * config.cloud_features
        size = size * spec.history + (0 if self.task is None else config.language_features)
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            layers += [nn.Linear(size, config.hidden), nn.SiLU()]
            size = config.hidden
        self.mlp = nn.Sequential(*layers, nn.Linear(size, config.tokens * width))

    def forward(
        self,
        observation: Mapping[str, Tensor],
        tasks: Sequence[str] | None = None,
        missing: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Map observations to context (batch, context tokens, width).

        Args:
            observation: by name, each (batch, history, ...): vectors (size), pictures (channels, height, width),
                uint8 or float in [0, 1], clouds (points, size).
            tasks: a sentence for each row, where language is read.
            missing: camera -> which rows lack it, (batch,) bool.
            generator: source of augmentation and of dropped cameras in training.
        """
        dtype = next(self.mlp.parameters()).dtype
        parts = [observation[name].flatten(1).to(dtype) for name in sorted(self.spec.vectors)]
        for name in sorted(self.spec.cameras):
            parts.append(self._camera(name, observation[name], (missing or {}).get(name), generator))
        for name in sorted(self.spec.clouds):
            cloud = observation[name].to(dtype)
            parts.append(self.clouds[key(name)](cloud.flatten(0, 1)).view(len(cloud), -1))
        if self.task is not None:
            if tasks is None:
                raise ConfigError("observation without", "task", "a sentence for each row")
            parts.append(self.task(tasks))
        context: Tensor = self.mlp(torch.cat(parts, -1))
        return context.view(len(context), self.config.tokens, -1)

    def _reader(self, name: str) -> str:
        """Return the name of the module that reads a camera."""
        return "shared" if self.config.vision.shared else key(name)

    def load_pretrained(self) -> None:
        """Fetch the pretrained weights that the settings ask for; a checkpoint holds them already."""
        if self.config.vision.pretrained:
            for camera in self.cameras.values():
                load_imagenet(cast(VisionEncoder, camera))
        if isinstance(self.task, TaskText):
            self.task.fit()

    def _camera(self, name: str, pictures: Tensor, missing: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Return a camera's features over the history, (batch, history * features)."""
        batch = len(pictures)
        features: Tensor = self.cameras[self._reader(name)](pictures, generator)
        gone = torch.zeros(batch, dtype=torch.bool, device=features.device) if missing is None else missing
        if self.training and self.config.vision.dropout:
            drawn = fractions((batch,), features.device, generator)
            gone = gone | (drawn < self.config.vision.dropout)
        stand_in = self.missing[key(name)].to(features.dtype).repeat(self.spec.history)
        return torch.where(gone[:, None], stand_in, features)


def key(name: str) -> str:
    """Return an observation's name as a module's, which may hold no dots.

    >>> key("observation.images.top")
    'observation_images_top'
    """
    return name.replace(".", "_")
