"""The ``lite`` network: S2S with a small backbone, explicit matching and skips.

The design of the paper (initializer, encoder, cell, decoder) with four changes that let it learn
from little data and run on a CPU: EfficientNet-Lite features shared by encoder and initializer,
the previous mask fed back into the cell, features matched with the first and the previous frame
(as FEELVOS, arXiv 1902.09513, does, with a soft instead of a hard nearest neighbour), and skips
from the encoder to the decoder. Its state has a constant size, as the paper's has.

Everything that depends on the frame alone is computed once; cell and decoder are batched over
objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2svos.network.config import LiteConfig
from s2svos.network.efficientnet import EfficientNet, Pyramid, imagenet_file
from s2svos.network.segmenter import Segmenter
from s2svos.network.weights import read_weights
from s2svos_engines.contract import StateSpec, StepContract
from s2svos_engines.errors import UserError

WIDTH16, WIDTH8, WIDTH4, WIDTH2 = 96, 64, 32, 8  # channels at stride 16 to 2
POSITION = 4  # numbers that a key spends on its place, see Matcher.queries
EPSILON = 1e-4  # floor of a summed similarity; 1e-4 is still a normal number in half precision


class Features(NamedTuple):
    """Features of B frames, computed once for all objects; B is 1 where one frame shows all."""

    first_queries: Tensor  # [B, first_key + POSITION, H/16 * W/16] asked of the first frame
    last_queries: Tensor  # [B, last_key + POSITION, H/8 * W/8] asked of the previous frame
    first_keys: Tensor  # [B, first_key + POSITION, H/16 * W/16] to remember of the first frame
    last_keys: Tensor  # [B, last_key + POSITION, H/16 * W/16] to remember of the previous frame
    x16: Tensor  # [B, WIDTH16, H/16, W/16] the cell's view of the frame
    gates: Tensor  # [B, 4 * hidden, H/16, W/16] the frame's share of the cell's gates
    skip8: Tensor  # [B, 64, H/8, W/8]
    skip4: Tensor  # [B, 32, H/4, W/4]
    skip2: Tensor  # [B, 8, H/2, W/2]


class State(NamedTuple):
    """State of the cell for N objects; its tensors are the graph's states."""

    hidden: Tensor  # [N, hidden, H/16, W/16]
    cell: Tensor  # [N, hidden, H/16, W/16]
    first_keys: Tensor  # [N, first_key + POSITION, H/16 * W/16] of the frame where each entered
    first_mask: Tensor  # [N, 1, H/16, W/16] the object's share of each place there
    last_keys: Tensor  # [N, last_key + POSITION, H/16 * W/16] of the previous frame; or without N
    last_mask: Tensor  # [N, 1, H/4, W/4] probabilities


class Keys(nn.Module):
    """Principal components of the backbone's features at strides 8, 16 and 32.

    Set by :meth:`fit` and frozen with the backbone: a learned projection told the videos that it
    was trained on apart ever better and others ever worse (docs/experiments.md).
    """

    def __init__(self, keys: int) -> None:
        super().__init__()
        _, _, c8, c16, c32 = EfficientNet.channels
        self.key8 = nn.Conv2d(c8, keys, 1)
        self.key16 = nn.Conv2d(c16, keys, 1, bias=False)
        self.key32 = nn.Conv2d(c32, keys, 1, bias=False)

    def forward(self, features: Pyramid) -> Tensor:
        """Return the keys of a frame, not normalised: float [B, keys, H/8, W/8]."""
        s8, s16, s32 = (_unit(x) for x in features[2:])
        keys: Tensor = self.key8(s8) + _double(self.key16(s16) + _double(self.key32(s32)))
        return keys

    @torch.no_grad()
    def fit(self, features: Sequence[Pyramid]) -> None:
        """Set the components to those of some frames' features."""
        points = torch.cat([self._points(one) for one in features], 1)
        mean = points.mean(1)
        centred = points - mean[:, None]
        vectors = torch.linalg.eigh(centred @ centred.T)[1]  # columns, by rising eigenvalue
        components = vectors.flip(1)[:, : self.key8.out_channels].T
        convolutions = self.key8, self.key16, self.key32
        parts = components.split([one.in_channels for one in convolutions], 1)
        for one, part in zip(convolutions, parts, strict=True):
            one.weight.copy_(part[:, :, None, None])
        assert self.key8.bias is not None
        self.key8.bias.copy_(-components @ mean)

    @staticmethod
    def _points(features: Pyramid) -> Tensor:
        """Normalised features of all places of stride 16, float [channels, places]."""
        levels = F.avg_pool2d(features.s8, 2), features.s16, _double(features.s32)
        return torch.cat([_unit(x) for x in levels], 1).transpose(0, 1).flatten(1)


class Encoder(nn.Module):
    """Frame to features."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.backbone = EfficientNet(config.backbone)
        c2, c4, c8, c16, c32 = EfficientNet.channels
        self.keys = Keys(config.first_key)
        self.lateral16 = nn.Conv2d(c16, WIDTH16, 1)
        self.lateral32 = nn.Conv2d(c32, WIDTH16, 1, bias=False)
        self.gates = nn.Conv2d(WIDTH16, 4 * config.hidden, 3, padding=1)
        self.skip8 = nn.Conv2d(c8, WIDTH8, 3, padding=1)
        self.top8 = nn.Conv2d(WIDTH16, WIDTH8, 1, bias=False)
        self.skip4 = nn.Conv2d(c4, WIDTH4, 3, padding=1)
        self.skip2 = nn.Conv2d(c2, WIDTH2, 1)

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """Encode frames, float [B, 3, H, W] from -1 to 1.

        Returns:
            The keys, not normalised, float [B, first_key, H/8, W/8]; then :class:`Features` from
            ``x16`` on.
        """
        f = self.backbone(frame)
        keys = self.keys(f)
        x16 = F.relu(self.lateral16(f.s16) + _double(self.lateral32(f.s32)))
        skip8 = self.skip8(f.s8) + _double(self.top8(x16))
        gates, skip4 = self.gates(x16), self.skip4(f.s4)
        return keys, x16, gates, skip8, skip4, self.skip2(f.s2)


class Matcher(nn.Module):
    """Soft nearest neighbour of every place of a frame among an object's and its background's.

    A remembered frame has a key for each stride-16 place. The similarity of a query to a key is
    ``exp(sharpness * (cosine - 1) - distance^2 / (2 reach^2))``, the exponential of one inner
    product of extended vectors; distances are in frame widths. Which places are the object's
    enters afterwards, as weights of a sum over the keys, so that what is similar to what is
    computed once for all objects of a frame.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(2.7))
        # The object may be anywhere since the first frame, but not far from where it just was.
        self.log_reach = nn.Parameter(torch.tensor([0.0, -1.9]))

    def queries(self, keys: Tensor) -> Tensor:
        """Extend the keys of a frame, float [B, key, h, w], to queries [B, D, h * w].

        With p the query's and q the key's place, ``-|p - q|^2 = 2 p.q - |p|^2 - |q|^2`` is the
        inner product of ``(p, |p|^2, 1)`` and ``(2q, -1, -|q|^2)``.
        """
        place = _grid(keys).expand(keys.shape[0], -1, -1)
        square = place.square().sum(1, keepdim=True)
        scaled = keys.flatten(2) * self.log_sharpness.exp()
        return torch.cat([scaled, place, square, torch.ones_like(square)], 1)

    def memory(self, keys: Tensor, *, first: bool) -> Tensor:
        """Return the keys of a frame as they are remembered.

        Args:
            keys: float [B, key, H/16, W/16], of the frame.
            first: whether it is remembered as the first frame or as the previous one.

        Returns:
            float [B, D, H/16 * W/16].
        """
        precision = 0.5 * torch.exp(-2 * self.log_reach[0 if first else 1])
        place = 2 * precision * _grid(keys).expand(keys.shape[0], -1, -1)
        square = -(place / 2).square().sum(1, keepdim=True) / precision
        one = torch.full_like(square, -1) * precision
        return torch.cat([keys.flatten(2), place, one, square - self.log_sharpness.exp()], 1)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the similarity of queries to keys.

        Args:
            queries: float [B, D, h * w], or without B.
            keys: float [B, D, places], likewise.

        Returns:
            float [B, places, h * w], likewise.
        """
        return torch.exp(keys.transpose(-2, -1) @ queries)

    @staticmethod
    def maps(similarity: Tensor, mask: Tensor) -> Tensor:
        """Return maps of the similarity to an object and to its background.

        Args:
            similarity: float [N, places, h * w]; or [places, h * w], the same for all objects.
            mask: float [N, 1, H/16, W/16], the object's share of each place.

        Returns:
            float [N, 3, h * w]: similarity to the object, to the background, and the object's
            share of both (its propagated probability).
        """
        shares = torch.cat([mask, 1 - mask], 1).flatten(2) + EPSILON  # [N, 2, places]
        # A mean over the places, to the scale of a sum at 256x448.
        summed = shares @ similarity * (448 / shares.shape[2]) + EPSILON
        share = summed[:, :1] / summed.sum(1, keepdim=True)
        return torch.cat([torch.log(summed) * 0.2, share], 1)


class Cell(nn.Module):
    """ConvLSTM at stride 16, equation 2 of the paper; tanh where the paper has ReLU.

    tanh bounds the hidden state, which half precision and int8 depend on.
    """

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        # Six matching maps and the previous mask as 4x4 sub-pixels beside the hidden state.
        self.gates = nn.Conv2d(config.hidden + 6 + 16, 4 * config.hidden, 3, padding=1, bias=False)

    def forward(
        self, frame_gates: Tensor, inputs: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the next hidden and cell state, each float [N, hidden, H/16, W/16]."""
        gates = frame_gates + self.gates(torch.cat([hidden, inputs], 1))
        enter, forget, candidate, leave = gates.chunk(4, 1)
        cell = torch.sigmoid(forget + 1) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class Decoder(nn.Module):
    """Hidden state, skips and matching maps to logits of every pixel."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.from16 = nn.Conv2d(config.hidden, WIDTH8, 1)
        self.maps8 = nn.Conv2d(7, WIDTH8, 3, padding=1, bias=False)
        self.conv8 = nn.Conv2d(WIDTH8, WIDTH8, 3, padding=1)
        self.from8 = nn.Conv2d(WIDTH8, WIDTH4, 1)
        self.mask4 = nn.Conv2d(1, WIDTH4, 3, padding=1, bias=False)
        self.conv4 = nn.Conv2d(WIDTH4, WIDTH4, 3, padding=1)
        self.from4 = nn.Conv2d(WIDTH4, 4 * WIDTH2, 1)
        self.logits = nn.Conv2d(WIDTH2, 4, 3, padding=1)

    def forward(self, features: Features, hidden: Tensor, maps8: Tensor, mask4: Tensor) -> Tensor:
        """Return the logits, float [N, 1, H, W].

        Args:
            features: of the frame.
            hidden: float [N, hidden, H/16, W/16].
            maps8: float [N, 7, H/8, W/8], matching maps and the previous mask.
            mask4: float [N, 1, H/4, W/4], the previous mask.
        """
        x = F.relu(_double(self.from16(hidden)) + features.skip8 + self.maps8(maps8))
        x = x + F.relu(self.conv8(x))
        x = F.relu(_double(self.from8(x)) + features.skip4 + self.mask4(mask4))
        x = x + F.relu(self.conv4(x))
        x = F.relu(F.pixel_shuffle(self.from4(x), 2) + features.skip2)
        # Sub-pixels, not an upsampled map: OpenVINO takes 2.7 ms to upsample one channel.
        return F.pixel_shuffle(self.logits(x), 2)


class Initializer(nn.Module):
    """First frame's features and mask to the first hidden and cell state."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.frame = nn.Conv2d(WIDTH16, WIDTH16, 3, padding=1)
        self.mask = nn.Conv2d(16, WIDTH16, 3, padding=1, bias=False)
        self.state = nn.Conv2d(WIDTH16, 2 * config.hidden, 3, padding=1)

    def forward(self, x16: Tensor, mask4: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden and cell state of the objects of ``mask4`` [N, 1, H/4, W/4]."""
        x = F.relu(self.frame(x16) + self.mask(F.pixel_unshuffle(mask4, 4)))
        hidden, cell = torch.tanh(self.state(x)).chunk(2, 1)
        return hidden, cell


class Lite(Segmenter[Features, State]):
    """The default network."""

    feeds_back_mask: ClassVar[bool] = True

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.config: LiteConfig = config
        self.encoder = Encoder(config)
        self.matcher = Matcher()
        self.initializer = Initializer(config)
        self.cell = Cell(config)
        self.decoder = Decoder(config)

    @property
    def contract(self) -> StepContract:
        """Names, shapes and dtypes of the graphs."""
        h, w = self.config.height, self.config.width
        places = (h // 16) * (w // 16)
        hidden = (self.config.hidden, h // 16, w // 16)
        first_keys = (self.config.first_key + POSITION, places)
        last_keys = (self.config.last_key + POSITION, places)
        states = (
            StateSpec("hidden", hidden),
            StateSpec("cell", hidden),
            StateSpec("first_keys", first_keys),
            StateSpec("first_mask", (1, h // 16, w // 16)),
            StateSpec("last_keys", last_keys, shared=True),
            StateSpec("last_mask", (1, h // 4, w // 4)),
        )
        return StepContract(h, w, states)

    def features(self, frame: Tensor) -> Features:
        """Encode frames, uint8 or float [B, 3, H, W] from 0 to 255."""
        keys, *maps = self.encoder(frame / 127.5 - 1)
        keys, matcher = keys.float(), self.matcher
        keys16 = F.avg_pool2d(keys, 2)
        first, last = _unit(keys16), _unit(keys16[:, : self.config.last_key])
        return Features(
            matcher.queries(first),
            matcher.queries(_unit(keys[:, : self.config.last_key])),
            matcher.memory(first, first=True),
            matcher.memory(last, first=False),
            *maps,
        )

    @torch.no_grad()
    def fit_keys(self, frames: Iterable[Tensor]) -> None:
        """Set the keys to the principal components of frames [3, H, W], 0 to 255."""
        parts = torch.split(torch.stack(list(frames)).float() / 127.5 - 1, 8)
        self.encoder.keys.fit([self.encoder.backbone(part) for part in parts])

    def start(self, features: Features, mask: Tensor) -> State:
        """Return the state after the first frame; mask: float [N, 1, H, W], 1 for the object."""
        mask4 = F.avg_pool2d(mask, 4)
        hidden, cell = self.initializer(features.x16, mask4)
        first_keys = features.first_keys.expand(mask.shape[0], -1, -1)
        first_mask = F.avg_pool2d(mask4.float(), 4)
        return State(hidden, cell, first_keys, first_mask, features.last_keys, mask4)

    def advance(self, features: Features, state: State) -> tuple[Tensor, State]:
        """Return one frame's logits, float [N, 1, H, W], and the next state."""
        # The first frame says what the object is, the previous one where: only the second match
        # is worth stride 8.
        first = self.matcher(features.first_queries, state.first_keys)
        first = self.matcher.maps(first, state.first_mask).to(self.dtype)
        first = first.view(*first.shape[:2], *features.x16.shape[2:])
        # Where one frame shows all objects, its similarities are computed once for all of them.
        shared = 0 if state.last_keys.ndim == 2 else slice(None)
        last = self.matcher(features.last_queries[shared], state.last_keys)
        last = self.matcher.maps(last, F.avg_pool2d(state.last_mask.float(), 4)).to(self.dtype)
        last = last.view(*last.shape[:2], *features.skip8.shape[2:])
        seen = [first, F.avg_pool2d(last, 2), F.pixel_unshuffle(state.last_mask, 4)]
        hidden, cell = self.cell(features.gates, torch.cat(seen, 1), state.hidden, state.cell)
        maps8 = torch.cat([_double(first), last, F.avg_pool2d(state.last_mask, 2)], 1)
        logits = self.decoder(features, hidden, maps8, state.last_mask)
        mask4 = F.avg_pool2d(torch.sigmoid(logits), 4)
        carried = state.first_keys, state.first_mask, features.last_keys[shared]
        return logits, State(hidden, cell, *carried, mask4)

    def half(self) -> Lite:
        """Half precision but for the matching, whose inner products of places cancel."""
        super().half()
        self.matcher.float()
        return self

    def read_state(self, states: Sequence[Tensor]) -> State:
        """Return the graphs' states, float32, in the dtypes that the network computes with."""
        state = State(*states)
        return state._replace(
            hidden=state.hidden.to(self.dtype),
            cell=state.cell.to(self.dtype),
            last_mask=state.last_mask.to(self.dtype),
        )

    def load_backbone(self, weights: str) -> None:
        """Load ImageNet weights into the backbone.

        Args:
            weights: ``imagenet``, or the path of a file as ``efficientnet_lite_pytorch`` has it.

        Raises:
            UserError: the weights are not installed, or the file holds others.
        """
        variant = self.config.backbone
        state = read_weights(imagenet_file(variant) if weights == "imagenet" else Path(weights))
        try:
            self.encoder.backbone.load_features(state)
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{weights} does not hold the weights of {variant} ({reason})",
                "name a file that does",
            ) from error

    def freeze_backbone(self) -> None:
        """Keep backbone and keys as they are.

        Tuning the backbone on a few dozen videos made matching worse on videos not trained on, see
        docs/experiments.md.
        """
        self.encoder.backbone.requires_grad_(False)
        self.encoder.keys.requires_grad_(False)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _unit(x: Tensor) -> Tensor:
    """Vectors along axis 1 with the length 1, but those near nothing."""
    # F.normalize would leave an Expand node each in the graphs.
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length.clamp(min=1e-3)


def _grid(like: Tensor) -> Tensor:
    """Centres of the places of a map [B, C, h, w] in widths: float [1, 2, h * w], (y, x)."""
    height, width = like.shape[2:]
    rows = torch.arange(height, device=like.device)
    columns = torch.arange(width, device=like.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return ((torch.stack([y, x]).flatten(1)[None] + 0.5) / width).to(like.dtype)
