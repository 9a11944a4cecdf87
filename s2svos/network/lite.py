"""The ``lite`` network: S2S with a small backbone, explicit matching and skips.

The design of the paper (initializer, encoder, cell, decoder) with four changes that let it learn
from little data and run on a CPU: EfficientNet-Lite features shared by encoder and initializer,
the previous mask fed back into the cell, features matched with the first and the previous frame
(as FEELVOS, arXiv 1902.09513, does, with a soft instead of a hard nearest neighbour), and skips
from the encoder to the decoder. Its state has a constant size, as the paper's has.

Objects see each other: the masks of a stream's objects and its background compete for every pixel
(a softmax whose background logit is 0, exactly the sigmoid for one object), and the others' masks
enter cell and decoder. Appearance is remembered beyond the first and the previous frame: by a slow
slot that takes a frame now and then, by prototypes of object and background, and by their mean
features, which scale and shift the decoder's (as CFBI's instance attention, arXiv 2003.08333).

Everything that depends on the frame alone is computed once; cell and decoder are batched over
objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
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

WIDTH16, WIDTH8, WIDTH4, WIDTH2 = 96, 64, 32, 32  # channels at stride 16 to 2
POSITION = 4  # numbers that a key spends on its place, see Matcher.queries
EPSILON = 1e-4  # floor of a summed similarity; 1e-4 is still a normal number in half precision
SHARP_EPSILON = 1e-7  # of squared similarities
PERIOD = 20  # frames between two that the slow slot takes
RENEWAL = 0.1  # share of a prototype that a frame replaces
MAX_LOGIT = 15.0  # from which on an object leaves the others no more of a pixel


class Features(NamedTuple):
    """Features of B frames, computed once for all objects; B is 1 where one frame shows all."""

    first_queries: Tensor  # [B, first_key + POSITION, H/16 * W/16] asked of the first frame
    last_queries: Tensor  # [B, last_key + POSITION, H/8 * W/8] asked of the previous frame
    first_keys: Tensor  # [B, first_key + POSITION, H/16 * W/16] to remember of the first frame
    last_keys: Tensor  # [B, last_key + POSITION, H/16 * W/16] to remember of the previous frame
    slow_queries: Tensor  # [B, last_key + POSITION, H/16 * W/16] asked of the slow slot
    slow_keys: Tensor  # [B, last_key + POSITION, H/16 * W/16] to remember in it
    x16: Tensor  # [B, WIDTH16, H/16, W/16] the cell's view of the frame
    gates: Tensor  # [B, 4 * hidden, H/16, W/16] the frame's share of the cell's gates
    skip8: Tensor  # [B, 64, H/8, W/8]
    skip4: Tensor  # [B, 32, H/4, W/4]
    skip2: Tensor  # [B, 32, H/4, W/4] of 2x2 places of stride 2


class State(NamedTuple):
    """State of the cell for N objects of S streams; its tensors are the graph's states."""

    hidden: Tensor  # [N, hidden, H/16, W/16]
    cell: Tensor  # [N, hidden, H/16, W/16]
    # [1 or N, first_key + POSITION, H/16 * W/16] of the frame where all entered, or each
    first_keys: Tensor
    first_mask: Tensor  # [N, 1, H/16, W/16] the object's share of each place there
    last_keys: Tensor  # [S, last_key + POSITION, H/16 * W/16] of the previous frame
    last_mask: Tensor  # [N, 1, H/4, W/4] probabilities
    slow_keys: Tensor  # [S, last_key + POSITION, H/16 * W/16] of the frame in the slow slot
    slow_mask: Tensor  # [N, 3, H/16, W/16] object, rest and others there; 0 while it is empty
    slow_clock: Tensor  # [S, 1] frames since the slot took one
    prototypes: Tensor  # [N, 2, last_key] mean key of object and rest, lately
    first_instance: Tensor  # [N, 2, WIDTH16] mean features of object and rest where it entered
    last_instance: Tensor  # [N, 2, WIDTH16] and on the previous frame


MATCHED = (  # in full precision: inner products of places cancel
    *("first_keys", "first_mask", "last_keys"),
    *("slow_keys", "slow_mask", "slow_clock", "prototypes"),
)


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
        self.backbone = EfficientNet(config.backbone, config.widths)
        c2, c4, c8, c16, c32 = EfficientNet.channels
        self.keys = Keys(config.first_key)
        self.lateral16 = nn.Conv2d(c16, WIDTH16, 1)
        self.lateral32 = nn.Conv2d(c32, WIDTH16, 1, bias=False)
        self.near = nn.Conv2d(WIDTH16, WIDTH16, 3, padding=1, groups=WIDTH16)
        self.gates = nn.Conv2d(WIDTH16, 4 * config.hidden, 1)
        self.skip8 = nn.Conv2d(c8, WIDTH8, 1)
        self.top8 = nn.Conv2d(WIDTH16, WIDTH8, 1, bias=False)
        self.skip4 = nn.Conv2d(c4, WIDTH4, 1)
        # To take 2x2 places for channels instead is a transposition: 5 % of a step on ONNX Runtime.
        self.skip2 = nn.Conv2d(c2, WIDTH2, 2, stride=2)

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
        gates = self.gates(self.near(x16))
        return keys, x16, gates, skip8, self.skip4(f.s4), self.skip2(f.s2)


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
        self.slow_log_reach = nn.Parameter(torch.tensor(-0.7))

    def queries(self, keys: Tensor) -> Tensor:
        """Extend the keys of a frame, float [B, key, h, w], to queries [B, D, h * w].

        With p the query's and q the key's place, ``-|p - q|^2 = 2 p.q - |p|^2 - |q|^2`` is the
        inner product of ``(p, |p|^2, 1)`` and ``(2q, -1, -|q|^2)``.
        """
        place = _grid(keys).expand(keys.shape[0], -1, -1)
        square = place.square().sum(1, keepdim=True)
        scaled = keys.flatten(2) * self.log_sharpness.exp()
        return torch.cat([scaled, place, square, torch.ones_like(square)], 1)

    def memory(self, keys: Tensor, log_reach: Tensor) -> Tensor:
        """Return the keys of a frame as they are remembered.

        Args:
            keys: float [B, key, H/16, W/16], of the frame.
            log_reach: logarithm of the distance within which a thing is looked for.

        Returns:
            float [B, D, H/16 * W/16].
        """
        precision = 0.5 * torch.exp(-2 * log_reach)
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
    def maps(similarity: Tensor, shares: Tensor, floor: float = EPSILON) -> Tensor:
        """Return maps of the similarity to an object, to its background and to other objects.

        Args:
            similarity: float [N, places, h * w]; or [places, h * w], the same for all objects.
            shares: float [N, 2 or 3, places], how much of each place is the object's, is not, and
                is another object's.
            floor: of the sums.

        Returns:
            float [N, 3 or 4, h * w]: similarity to the object, to the background, the object's
            share of both (its propagated probability), and similarity to the others.
        """
        # A mean over the places, to the scale of a sum at 256x448.
        summed = (shares + floor) @ similarity * (448 / shares.shape[2]) + floor
        share = summed[:, :1] / summed[:, :2].sum(1, keepdim=True)
        logs = torch.log(summed) * 0.2
        return torch.cat([logs[:, :2], share, logs[:, 2:]], 1)

    def contrast(self, prototypes: Tensor, queries: Tensor) -> Tensor:
        """Return how much nearer each place is to the object than to the rest, [N, 1, h * w].

        Args:
            prototypes: float [N, 2, key], of the object and of the rest.
            queries: float [N, D, h * w] or [D, h * w], of the frame.
        """
        keys = queries[..., : prototypes.shape[2], :]
        return (prototypes[:, :1] - prototypes[:, 1:]) @ keys * (-self.log_sharpness).exp()


MAPS16 = 3 + 3 + 1 + 4  # matches with the first frame, the same sharper, prototype, slow slot
MAPS8 = 4 + 1  # matches with the previous frame, prototype
CELL_BOTTLENECK = 48  # channels that a 3x3 convolution sees of the cell's inputs


class Cell(nn.Module):
    """ConvLSTM at stride 16, equation 2 of the paper; tanh where the paper has ReLU.

    tanh bounds the hidden state, which half precision and int8 depend on.
    """

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        # Beside the hidden state: matching maps, the previous mask as 4x4 sub-pixels, the others'
        # as 2x2.
        inputs = config.hidden + MAPS16 + MAPS8 + 16 + 4
        # Half the products of a 3x3 convolution of all inputs.
        self.reduce = nn.Conv2d(inputs, CELL_BOTTLENECK, 1, bias=False)
        self.gates = nn.Conv2d(CELL_BOTTLENECK, 4 * config.hidden, 3, padding=1, bias=False)

    def forward(
        self, frame_gates: Tensor, inputs: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the next hidden and cell state, each float [N, hidden, H/16, W/16]."""
        gates = frame_gates + self.gates(self.reduce(torch.cat([hidden, inputs], 1)))
        enter, forget, candidate, leave = gates.chunk(4, 1)
        cell = torch.sigmoid(forget + 1) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class Context(nn.Module):
    """The view of a wide neighbourhood and of the whole frame, at stride 32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.wide = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.whole = nn.Conv2d(width, width, 1)
        self.back = nn.Conv2d(width, width, 1)
        _silence(self.back)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is added to the hidden state, float [N, hidden, H/16, W/16]."""
        x = F.relu(self.near(F.avg_pool2d(hidden, 2)))
        x = F.relu(self.wide(x)) + self.whole(x.mean((2, 3), keepdim=True))
        return _double(self.back(x))


class Decoder(nn.Module):
    """Hidden state, skips and matching maps to logits of every pixel.

    What is finer than stride 4 stays there as sub-pixels in channels: to move them between channels
    and places took 6 % of a step of ten objects on OpenVINO, 12 % on ONNX Runtime.
    """

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        self.context = Context(config.hidden)
        self.instance = nn.Linear(4 * WIDTH16, WIDTH16)
        self.adjust = nn.Linear(WIDTH16, 2 * (WIDTH8 + WIDTH4))
        _silence(self.adjust)
        self.from16 = nn.Conv2d(config.hidden, WIDTH8, 1)
        self.maps8 = nn.Conv2d(MAPS16 + MAPS8 + 2 * 4, WIDTH8, 3, padding=1, bias=False)
        self.conv8 = _separable(WIDTH8)
        self.from8 = nn.Conv2d(WIDTH8, WIDTH4, 1)
        self.conv4 = _separable(WIDTH4)
        self.from4 = nn.Conv2d(WIDTH4, WIDTH2, 1)
        self.logits = nn.Conv2d(WIDTH2, 4 * 4, 3, padding=1)

    def forward(
        self, features: Features, hidden: Tensor, maps8: Tensor, instance: Tensor
    ) -> Tensor:
        """Return the logits, float [N, 4 * 4, H/4, W/4], the sub-pixels of ``F.pixel_shuffle``.

        Args:
            features: of the frame.
            hidden: float [N, hidden, H/16, W/16].
            maps8: float [N, MAPS16 + MAPS8 + 8, H/8, W/8], matching maps, and the previous masks
                of the object and of the others as 2x2 sub-pixels.
            instance: float [N, 1, 4 * WIDTH16], mean features of the object and of the rest.
        """
        adjusted = self.adjust(F.relu(self.instance(instance))).transpose(1, 2)[..., None]
        scale8, shift8, scale4, shift4 = adjusted.split([WIDTH8, WIDTH8, WIDTH4, WIDTH4], 1)
        x = self.from16(hidden + self.context(hidden))
        x = _double(x * (1 + torch.tanh(scale8)) + shift8)
        x = F.relu(x + features.skip8 + self.maps8(maps8))
        x = x + F.relu(self.conv8(x))
        x = _double(self.from8(x) * (1 + torch.tanh(scale4)) + shift4)
        x = F.relu(x + features.skip4)
        x = x + F.relu(self.conv4(x))
        logits: Tensor = self.logits(F.relu(self.from4(x) + features.skip2))
        return logits


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
            StateSpec("first_keys", first_keys, entered=True),
            StateSpec("first_mask", (1, h // 16, w // 16)),
            StateSpec("last_keys", last_keys, shared=True),
            StateSpec("last_mask", (1, h // 4, w // 4)),
            StateSpec("slow_keys", last_keys, shared=True),
            StateSpec("slow_mask", (3, h // 16, w // 16)),
            StateSpec("slow_clock", (1,), shared=True),
            StateSpec("prototypes", (2, self.config.last_key)),
            StateSpec("first_instance", (2, WIDTH16)),
            StateSpec("last_instance", (2, WIDTH16)),
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
            matcher.memory(first, matcher.log_reach[0]),
            matcher.memory(last, matcher.log_reach[1]),
            matcher.queries(last),
            matcher.memory(last, matcher.slow_log_reach),
            *maps,
        )

    @torch.no_grad()
    def fit_keys(self, frames: Iterable[Tensor]) -> None:
        """Set the keys to the principal components of frames [3, H, W], 0 to 255."""
        parts = torch.split(torch.stack(list(frames)).float() / 127.5 - 1, 8)
        self.encoder.keys.fit([self.encoder.backbone(part) for part in parts])

    def start(self, features: Features, mask: Tensor, owners: Tensor | None = None) -> State:
        """Return the state after the first frame; mask: float [N, 1, H, W], 1 for the object."""
        mask4 = F.avg_pool2d(mask, 4)
        hidden, cell = self.initializer(_of_objects(features.x16, owners), mask4)
        first_keys = _of_objects(features.first_keys, owners)
        first_mask = F.avg_pool2d(mask4.float(), 4)
        with _full_precision(mask4):
            prototypes, instance = self._means(features, _shares(first_mask), owners)
        instance = instance.to(self.dtype)
        return State(
            *(hidden, cell, first_keys, first_mask, features.last_keys, mask4),
            # Empty: it would only repeat what is remembered of the first frame.
            slow_keys=features.slow_keys,
            slow_mask=torch.zeros_like(first_mask).expand(-1, 3, -1, -1).contiguous(),
            slow_clock=torch.zeros_like(features.slow_keys[:, 0, :1]),
            prototypes=prototypes,
            first_instance=instance,
            last_instance=instance,
        )

    def advance(
        self, features: Features, state: State, owners: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return one frame's logits, float [N, 4 * 4, H/4, W/4], and the next state."""
        others = _others(state.last_mask, owners)
        with _full_precision(others):
            maps16, maps8 = self._match(features, state, others.float(), owners)
        view = Features(*(_of_objects(x, owners) for x in features))
        maps16 = maps16.to(self.dtype).view(*maps16.shape[:2], *view.x16.shape[2:])
        maps8 = maps8.to(self.dtype).view(*maps8.shape[:2], *view.skip8.shape[2:])
        mask4 = state.last_mask
        masks16 = F.pixel_unshuffle(mask4, 4), F.pixel_unshuffle(F.avg_pool2d(others, 2), 2)
        seen = torch.cat([maps16, F.avg_pool2d(maps8, 2), *masks16], 1)
        hidden, cell = self.cell(view.gates, seen, state.hidden, state.cell)
        masks8 = F.pixel_unshuffle(torch.cat([mask4, others], 1), 2)
        maps8 = torch.cat([_double(maps16), maps8, masks8], 1)
        instance = torch.cat([state.first_instance, state.last_instance], 1).flatten(1)[:, None]
        logits = self.decoder(view, hidden, maps8, instance)
        mask4 = self._softmax(logits, owners).mean(1, keepdim=True)
        with _full_precision(others):
            following = self._remember(features, state, mask4.float(), owners)
        return logits, following._replace(hidden=hidden, cell=cell, last_mask=mask4)

    def probabilities(self, logits: Tensor, owners: Tensor | None = None) -> Tensor:
        """Return the softmax over a stream's objects and its background, whose logit is 0."""
        return F.pixel_shuffle(self._softmax(logits, owners), 4)

    def log_odds(self, logits: Tensor, owners: Tensor | None = None) -> Tensor:
        """Return the logit of each object against the background and the other objects."""
        with _full_precision(logits):
            odds = logits.float() - torch.log(1 + _others(_odds(logits), owners))
            return F.pixel_shuffle(odds, 4)

    def _softmax(self, logits: Tensor, owners: Tensor | None) -> Tensor:
        """Return :meth:`probabilities` as sub-pixels, like ``logits``."""
        with _full_precision(logits):
            weights = _odds(logits)
            return (weights / (1 + _sums(weights, owners))).to(logits.dtype)

    def _match(
        self, features: Features, state: State, others: Tensor, owners: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Match a frame with what is remembered.

        Returns:
            float [N, MAPS16, H/16 * W/16], with the first frame and the slow slot; and
            float [N, MAPS8, H/8 * W/8], with the previous frame.
        """
        # The first frame says what the object is, the previous one where: only the second match
        # is worth stride 8.
        matcher, queries = self.matcher, _of_objects(features.first_queries, owners)
        shares = _shares(state.first_mask)
        similarity = matcher(queries, state.first_keys)
        keys = state.first_keys[:, : self.config.first_key]
        first = (
            matcher.maps(similarity, shares),
            matcher.maps(similarity.square(), shares, SHARP_EPSILON),
            matcher.contrast(_unit(shares @ keys.transpose(1, 2), 2), queries),
        )
        # What is similar to what is computed once a stream.
        slow = _of_objects(
            matcher(_squeeze(features.slow_queries, owners), _squeeze(state.slow_keys, owners)),
            owners,
        )
        maps16 = torch.cat([*first, matcher.maps(slow, state.slow_mask.flatten(2))], 1)
        queries = _squeeze(features.last_queries, owners)
        last = _of_objects(matcher(queries, _squeeze(state.last_keys, owners)), owners)
        shares = _shares(F.avg_pool2d(state.last_mask.float(), 4), F.avg_pool2d(others, 4))
        contrast = matcher.contrast(state.prototypes, _of_objects(queries, owners))
        return maps16, torch.cat([matcher.maps(last, shares), contrast], 1)

    def _remember(
        self, features: Features, state: State, mask4: Tensor, owners: Tensor | None
    ) -> State:
        """Return the next state but for hidden, cell and last mask.

        Args:
            features: of the frame.
            state: before it.
            mask4: float [N, 1, H/4, W/4], its masks.
            owners: as :meth:`advance`.
        """
        mask16 = F.avg_pool2d(mask4, 4)
        shares, area = _shares(mask16, _others(mask16, owners)), mask16.sum((2, 3))[..., None]
        clock = state.slow_clock + 1
        due = (clock >= PERIOD).to(clock.dtype)[..., None]  # [S, 1, 1]
        taken = _of_objects(due, owners)[..., None]
        # Of an object that is out of sight the slot holds nothing, rather than that it is nowhere.
        present = (4 * area / (state.first_mask.sum((2, 3))[..., None] + 1)).clamp(max=1)
        slow_mask = (shares * present).view(*shares.shape[:2], *mask16.shape[2:])
        prototypes, instance = self._means(features, shares[:, :2], owners)
        weight = (area / 2).clamp(max=1)  # an object out of sight leaves them as they are
        renewed = state.prototypes + RENEWAL * weight * (prototypes - state.prototypes)
        last_instance = state.last_instance.float()
        last_instance = last_instance + weight * (instance - last_instance)
        return state._replace(
            last_keys=features.last_keys,
            slow_keys=due * features.slow_keys + (1 - due) * state.slow_keys,
            slow_mask=taken * slow_mask + (1 - taken) * state.slow_mask,
            slow_clock=clock * (1 - due[..., 0]),
            prototypes=_unit(renewed, 2),
            last_instance=last_instance.to(self.dtype),
        )

    def _means(
        self, features: Features, shares: Tensor, owners: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return mean keys (unit vectors) and features of objects and rest: [N, 2, channels]."""
        keys = _of_objects(_squeeze(features.slow_keys, owners), owners)
        keys = keys[..., : self.config.last_key, :].transpose(-2, -1)
        x16 = _of_objects(_squeeze(features.x16.float(), owners), owners).flatten(-2)
        means = shares @ x16.transpose(-2, -1) / (shares.sum(2, keepdim=True) + 1e-3)
        return _unit(shares @ keys, 2), means

    def half(self) -> Lite:
        """Half precision but for the matching, whose inner products of places cancel."""
        super().half()
        self.matcher.float()
        return self

    def double(self) -> Lite:
        """Double precision likewise, which the exporter takes for a mark of half precision."""
        super().double()
        self.matcher.float()
        return self

    def read_state(self, states: Sequence[Tensor]) -> State:
        """Return the graphs' states, float32, in the dtypes that the network computes with."""
        named = State(*states)._asdict()
        return State(**{k: x if k in MATCHED else x.to(self.dtype) for k, x in named.items()})

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


def _separable(width: int) -> nn.Sequential:
    """Return a 3x3 convolution a channel and a 1x1 one: a quarter of the time of a whole 3x3."""
    near = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
    return nn.Sequential(near, nn.Conv2d(width, width, 1))


def _silence(layer: nn.Conv2d | nn.Linear) -> None:
    """Let a layer begin with outputs of 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _of_objects(x: Tensor, owners: Tensor | None) -> Tensor:
    """Return what S streams have, [S, ...], for each object, [N, ...]; one stream's as it is."""
    return x if owners is None else x.index_select(0, owners)


def _squeeze(x: Tensor, owners: Tensor | None) -> Tensor:
    """Return what S streams have, [S, ...]; one stream's without S, so that objects share it."""
    return x[0] if owners is None else x


def _sums(x: Tensor, owners: Tensor | None) -> Tensor:
    """Return the sum over each object's stream: [N, 1, h, w], or [1, 1, h, w] of one stream."""
    if owners is None:
        return x.sum(0, keepdim=True)
    together = (owners[:, None] == owners).to(x.dtype)
    return (together @ x.flatten(1)).view_as(x)


def _others(x: Tensor, owners: Tensor | None) -> Tensor:
    """Return the sum over the other objects of each one's stream, of numbers from 0: like ``x``."""
    return F.relu(_sums(x, owners) - x)


def _odds(logits: Tensor) -> Tensor:
    return logits.float().clamp(max=MAX_LOGIT).exp()  # half precision ends at 65504


def _shares(*masks16: Tensor) -> Tensor:
    """Return how much of each place is the object's, is not, is others': [N, 2 or 3, places]."""
    own, *others = masks16
    return torch.cat([own, 1 - own, *others], 1).flatten(2)


def _full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off, where it is on."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _unit(x: Tensor, dim: int = 1) -> Tensor:
    """Vectors along an axis with the length 1, but those near nothing."""
    # F.normalize would leave an Expand node each in the graphs.
    length: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / length.clamp(min=1e-3)


def _grid(like: Tensor) -> Tensor:
    """Centres of the places of a map [B, C, h, w] in widths: float [1, 2, h * w], (y, x)."""
    height, width = like.shape[2:]
    rows = torch.arange(height, device=like.device)
    columns = torch.arange(width, device=like.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return ((torch.stack([y, x]).flatten(1)[None] + 0.5) / width).to(like.dtype)
