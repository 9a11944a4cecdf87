"""The network in PyTorch, as one would run it without exporting it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.engine import States


class TorchLoop:
    """``masks, *states = network.step(frame, *states)``; the state stays on the device.

    Args:
        bundle: whose graphs are run where there is no checkpoint.
        states: of the first frame.
        checkpoint: that s2svos train wrote.
        precision: to compute in, fp32 or fp16.
        threads: of the processor.
        compiled: by torch.compile.

    Raises:
        UserError: the checkpoint is of another network than the bundle, or is missing to compile.
    """

    def __init__(
        self,
        bundle: Bundle,
        states: States,
        checkpoint: Path | None,
        *,
        precision: str,
        threads: int,
        compiled: bool,
    ) -> None:
        if compiled and checkpoint is None:
            # It breaks the interpreter of a bundle's graphs into pieces and gives up on most.
            raise UserError("torch.compile needs the network itself; give its --checkpoint.")
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._first = [torch.tensor(state).to(self._device) for state in states]
        step = _step(bundle, checkpoint, precision, self._device)
        self._step = torch.compile(step) if compiled else step
        self.restart()

    def restart(self) -> None:
        """Goes back to the first frame's state."""
        self._states = list(self._first)

    @torch.inference_mode()
    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] to uint8 [N, H, W]."""
        masks, *self._states = self._step(torch.from_numpy(frame).to(self._device), *self._states)
        result: NDArray[np.uint8] = masks.cpu().numpy()
        return result


def _step(
    bundle: Bundle, checkpoint: Path | None, precision: str, device: torch.device
) -> Callable[..., Sequence[Tensor]]:
    if checkpoint is None:
        from s2svos_engines.torch_engine import Programs

        programs = Programs(bundle, precision, device)
        return lambda *inputs: programs.run("step", inputs)
    from s2svos.network.checkpoint import load_network

    size = (bundle.contract.height, bundle.contract.width)
    network = load_network(checkpoint, size=size)
    if network.contract != bundle.contract:
        raise UserError(f"{checkpoint} is of another network than {bundle.path}; give its own.")
    network = network.to(device)
    return (network.half() if precision == "fp16" else network).step
