"""The network of the paper (arXiv 1809.00461, section 4): the ``paper`` preset.

Where the paper is silent, the choice is in a comment. One object a clip in training; in the
exported graphs the encoder runs once a frame and the cell and the decoder once an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2svos.extras import needs
from s2svos.network.config import PaperConfig
from s2svos.network.segmenter import Segmenter, to_bytes
from s2svos_engines.contract import StateSpec, StepContract
from s2svos_engines.errors import UserError

VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions between poolings, configuration D of arXiv 1409.1556."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
DECODER = (512, 256, 128, 64, 64)  # filters of the transposed convolutions, section 4.2
FULL_CHANNELS = 512  # the width that DECODER belongs to


class Features(NamedTuple):
    """Features of B frames, computed once for all objects; B is 1 where one frame shows all."""

    x32: Tensor  # [B, channels, H/32, W/32] the encoder's output
    frame: Tensor  # [B, 3, H, W] normalised, for the initializer


class State(NamedTuple):
    """State of the cell for N objects."""

    hidden: Tensor  # [N, channels, H/32, W/32]
    cell: Tensor  # [N, channels, H/32, W/32]


class VGG(nn.Module):
    """VGG-16's convolutions and its first fully connected layer as a 1x1 convolution."""

    def __init__(self, config: PaperConfig, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        layers: list[nn.Module] = []
        channels = inputs
        for width, convolutions in VGG16:
            outputs = max(1, int(width * config.vgg_width))
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc6 = nn.Conv2d(channels, config.fc_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, inputs, H, W] to [B, fc_channels, H/32, W/32]."""
        return F.relu(self.fc6(self.features(x)))

    def load_imagenet(self, weights: dict[str, Tensor]) -> None:
        """Load torchvision's VGG-16 weights; a fourth input channel, the mask, starts at zero."""
        own = {key: weights[key] for key in self.state_dict() if key.startswith("features.")}
        first = own["features.0.weight"]
        more = self.inputs - first.shape[1]
        own["features.0.weight"] = F.pad(first, (0, 0, 0, 0, 0, more))
        # The layer sees 7x7 places in VGG, one here: the sum answers a flat map as VGG would.
        fc6 = weights["classifier.0.weight"].view(4096, 512, 7, 7).sum((2, 3))
        own["fc6.weight"] = fc6[:, :, None, None]
        own["fc6.bias"] = weights["classifier.0.bias"]
        self.load_state_dict(own)


class Paper(Segmenter[Features, State]):
    """S2S as published: two VGG-16, a ConvLSTM and five transposed convolutions, no skips."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.config: PaperConfig = config
        c, fc = config.channels, config.fc_channels
        self.encoder = VGG(config, 3)
        self.encoder_out = nn.Conv2d(fc, c, 1)
        self.initializer = VGG(config, 4)
        self.initializer_out = nn.Conv2d(fc, 2 * c, 1)
        self.gates = nn.Conv2d(2 * c, 4 * c, 3, padding=1)
        widths = [c, *(max(1, width * c // FULL_CHANNELS) for width in DECODER)]
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, 5, 2, padding=2, output_padding=1)
            for inputs, outputs in pairwise(widths)
        )
        self.logits = nn.Conv2d(widths[-1], 1, 5, padding=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    @property
    def contract(self) -> StepContract:
        """Names, shapes and dtypes of the graphs."""
        h, w = self.config.height, self.config.width
        shape = (self.config.channels, h // 32, w // 32)
        return StepContract(h, w, (StateSpec("hidden", shape), StateSpec("cell", shape)))

    def features(self, frame: Tensor) -> Features:
        """Encode frames, uint8 or float [B, 3, H, W] from 0 to 255."""
        x = (frame / 255 - self.mean) / self.std
        return Features(F.relu(self.encoder_out(self.encoder(x))), x)

    def start(self, features: Features, mask: Tensor, owners: Tensor | None = None) -> State:
        """Return the state after the first frame (equation 3); mask: float [N, 1, H, W]."""
        frame = features.frame if owners is None else features.frame.index_select(0, owners)
        frame = frame.expand(mask.shape[0], -1, -1, -1)
        x = self.initializer_out(self.initializer(torch.cat([frame, mask], 1)))
        cell, hidden = F.relu(x).chunk(2, 1)
        return State(hidden, cell)

    def advance(
        self, features: Features, state: State, owners: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run one frame (equations 4 to 6) to logits, float [N, 1, H, W], and the next state."""
        x32 = features.x32 if owners is None else features.x32.index_select(0, owners)
        state = self.remember(x32, state)
        return self.decode(state.hidden), state

    def remember(self, x32: Tensor, state: State) -> State:
        """Run the ConvLSTM (equation 5); x32: float [1 or N, channels, H/32, W/32]."""
        x = x32.expand(state.hidden.shape[0], -1, -1, -1)
        enter, forget, candidate, leave = self.gates(torch.cat([x, state.hidden], 1)).chunk(4, 1)
        # Section 4.2: forget bias 1, ReLU in the place of tanh.
        cell = torch.sigmoid(forget + 1) * state.cell + torch.sigmoid(enter) * F.relu(candidate)
        return State(torch.sigmoid(leave) * F.relu(cell), cell)

    def decode(self, hidden: Tensor) -> Tensor:
        """Decode hidden states (equation 6) to logits, float [N, 1, H, W]."""
        for layer in self.decoder:
            hidden = F.relu(layer(hidden))
        logits: Tensor = self.logits(hidden)
        return logits

    def read_state(self, states: Sequence[Tensor]) -> State:
        """Return the graphs' states, float32, in the dtype that the network computes with."""
        return State(*(x.to(self.dtype) for x in states))

    def step(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Compute the ``step`` graph: uint8 [H, W, 3] and states to uint8 [N, H, W] and states."""
        # The states are cast before the decoder runs, as in the graphs exported so far: the order
        # decides their bytes.
        x32 = self._encode(frame.to(self.dtype)[None]).x32
        state = self.remember(x32, self.read_state(states))
        following = tuple(x.float() for x in state)
        return (to_bytes(self.probabilities(self.decode(state.hidden))), *following)

    def steps(self, frames: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Compute a ``stepT`` graph: uint8 [T, H, W, 3], states to uint8 [T, N, H, W], states.

        Encoder and decoder take all frames at once; only the cell goes from one to the next.
        """
        x32 = self._encode(frames.to(self.dtype)).x32
        state, hidden = self.read_state(states), []
        for x in torch.split(x32, 1):
            state = self.remember(x, state)
            hidden.append(state.hidden)
        following = tuple(x.float() for x in state)
        flat = self.decode(torch.cat(hidden))
        logits = flat.view(len(hidden), -1, *flat.shape[1:])
        return (to_bytes(self.probabilities(logits)), *following)

    def load_backbone(self, weights: str) -> None:
        """Load torchvision's ImageNet VGG-16 into encoder and initializer.

        Args:
            weights: ``imagenet``.

        Raises:
            UserError: others are wanted, they are neither in torch's cache nor downloadable, or
                torchvision is not installed.
        """
        if weights != "imagenet":
            raise UserError(
                f"The paper network cannot start from {weights}",
                "choose --backbone-weights imagenet or none",
            )
        # Importing it took as long as importing torch, in every command that reads a checkpoint.
        with needs("train"):
            from torchvision.models import VGG16_Weights, vgg16
        published = VGG16_Weights.IMAGENET1K_V1
        try:
            state = vgg16(weights=published).state_dict()
        except (URLError, OSError) as error:
            folder = f"{torch.hub.get_dir()}/checkpoints"
            raise UserError(
                "VGG-16's ImageNet weights cannot be downloaded",
                (
                    f"put {published.url} into {folder}, "
                    "or train from scratch with --backbone-weights none"
                ),
            ) from error
        self.encoder.load_imagenet(state)
        self.initializer.load_imagenet(state)

    def freeze_backbone(self) -> None:
        """Refuse: the paper trains both VGG-16.

        Raises:
            UserError: always.
        """
        raise UserError(
            "The paper network's backbone is trained with it", "set backbone.freeze to false"
        )
