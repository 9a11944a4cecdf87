"""The base of every network: three methods to write, the four exported graphs for free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from s2svos.network.config import NetworkConfig
from s2svos_engines.contract import StepContract

FeaturesT = TypeVar("FeaturesT", bound=NamedTuple)
StateT = TypeVar("StateT", bound=NamedTuple)


class Segmenter(nn.Module, ABC, Generic[FeaturesT, StateT]):
    """A recurrent segmenter of objects, as S2S (arXiv 1809.00461, section 4) is one.

    ``features`` is what is computed of a frame once for all objects, ``start`` and ``advance`` are
    the recurrence. Both tuples hold tensors with a leading axis.

    Attributes:
        feeds_back_mask: the state holds the previous mask, as ``last_mask``.
        config: what the network is built from.
    """

    feeds_back_mask: ClassVar[bool] = False
    config: NetworkConfig

    @property
    @abstractmethod
    def contract(self) -> StepContract:
        """Names, shapes and dtypes of the graphs."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the arithmetic. The states of the graphs are float32 all the same."""
        return next(self.parameters()).dtype

    @abstractmethod
    def features(self, frame: Tensor) -> FeaturesT:
        """Encode frames, uint8 or float [B, 3, H, W] from 0 to 255."""

    @abstractmethod
    def start(self, features: FeaturesT, mask: Tensor, owners: Tensor | None = None) -> StateT:
        """Return the state after the first frame.

        Args:
            features: of S frames on which objects enter.
            mask: float [N, 1, H, W], 1 for the object.
            owners: int64 [N], the frame of each object; None: S is 1, and it shows all.
        """

    @abstractmethod
    def advance(
        self, features: FeaturesT, state: StateT, owners: Tensor | None = None
    ) -> tuple[Tensor, StateT]:
        """Return the logits of N objects on S frames and the next state.

        Logits are float [N, r * r, H / r, W / r], sub-pixels as ``F.pixel_shuffle`` takes them; r
        is the network's own, and 1 if it has none.

        Args:
            features: of the S frames.
            state: of the N objects; what they share, [S, ...].
            owners: int64 [N], the frame of each object; None: S is 1, and it shows all.
        """

    def probabilities(self, logits: Tensor, owners: Tensor | None = None) -> Tensor:
        """Return the probabilities of N objects' logits, float [N, 1, H, W].

        Args:
            logits: of one frame, as :meth:`advance` gives them.
            owners: int64 [N], the stream of each object; None: one stream's.
        """
        return torch.sigmoid(logits)

    def log_odds(self, logits: Tensor, owners: Tensor | None = None) -> Tensor:
        """Return the logits of :meth:`probabilities`, which a loss takes; float [N, 1, H, W]."""
        return logits

    @abstractmethod
    def read_state(self, states: Sequence[Tensor]) -> StateT:
        """Return the graphs' states, float32, in the dtypes that the network computes with."""

    @abstractmethod
    def load_backbone(self, weights: str) -> None:
        """Load pretrained weights into the backbone.

        Args:
            weights: ``imagenet``, or the path of a file.

        Raises:
            UserError: the weights cannot be had, or are of another backbone.
        """

    @abstractmethod
    def freeze_backbone(self) -> None:
        """Keep the backbone's weights and its BatchNorm as they are.

        Raises:
            UserError: the network has no backbone apart from itself.
        """

    def fit_keys(self, frames: Iterable[Tensor]) -> None:
        """Set the keys for matching by frames of the videos to come.

        Args:
            frames: uint8 or float [3, H, W], 0 to 255; not read by a network that has no keys.
        """

    def init(self, frame: Tensor, first_masks: Tensor) -> tuple[Tensor, ...]:
        """Compute the ``init`` graph: uint8 [H, W, 3] and uint8 [N, H, W] to the states."""
        mask = first_masks.to(self.dtype)[:, None] / 255
        return self._of_stream(self.start(self._encode(frame.to(self.dtype)[None]), mask))

    def step(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Compute the ``step`` graph: uint8 [H, W, 3] and states to uint8 [N, H, W] and states."""
        encoded = self._encode(frame.to(self.dtype)[None])
        logits, state = self.advance(encoded, self._read_stream(states))
        following = self._of_stream(state)
        return (to_bytes(self.probabilities(logits)), *following)

    def steps(self, frames: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Compute a ``stepT`` graph: uint8 [T, H, W, 3], states to uint8 [T, N, H, W], states.

        The encoder takes all frames at once; cell and decoder follow each other, as a frame's mask
        enters the next frame's cell.
        """
        encoded = self._encode(frames.to(self.dtype))
        state, masks = self._read_stream(states), []
        for features in zip(*(torch.split(x, 1) for x in encoded), strict=True):
            logits, state = self.advance(type(encoded)._make(features), state)
            masks.append(self.probabilities(logits))
        following = self._of_stream(state)
        return (to_bytes(torch.stack(masks)), *following)

    def batch(self, frames: Tensor, owners: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Compute the ``batch`` graph: frames of S streams, uint8 [S, H, W, 3], and N objects.

        Args:
            frames: one a stream.
            owners: int64 [N], the stream of each object.
            states: of all objects; the shared ones [S, ...].
        """
        encoded = self._encode(frames.to(self.dtype))
        logits, state = self.advance(encoded, self.read_state(states), owners)
        return (to_bytes(self.probabilities(logits, owners)), *_float(state))

    @property
    def _shared(self) -> list[str]:
        """Names of the states that all objects of a stream share."""
        return [spec.name for spec in self.contract.states if spec.shared]

    def _read_stream(self, states: Sequence[Tensor]) -> StateT:
        """Return one stream's states, the shared ones of which have no leading axis in a graph."""
        state = self.read_state(states)
        return state._replace(**{name: getattr(state, name)[None] for name in self._shared})

    def _of_stream(self, state: StateT) -> tuple[Tensor, ...]:
        """Return one stream's states as its graphs give them."""
        return _float(state._replace(**{name: getattr(state, name)[0] for name in self._shared}))

    def _encode(self, frames: Tensor) -> FeaturesT:
        """Encode float [B, H, W, 3]. The cast from bytes comes first, as TensorRT wants it."""
        return self.features(frames.permute(0, 3, 1, 2))


AnySegmenter = Segmenter[Any, Any]
"""A network of either preset, whose features and state only itself looks into."""


def to_bytes(probabilities: Tensor) -> Tensor:
    """Return probabilities, float [..., 1, H, W], times 255, uint8 [..., H, W]."""
    return (probabilities.squeeze(-3) * 255 + 0.5).to(torch.uint8)


def _float(states: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(x.float() for x in states)
