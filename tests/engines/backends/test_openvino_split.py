"""Graphs split after the encoder, for calls that are in flight together."""

import numpy as np
import pytest

from s2svos.sample.render import render
from s2svos.shipped import BUNDLES, bundle_path
from s2svos_engines.backends.openvino import OpenVinoEngine
from s2svos_engines.backends.openvino_graphs import has_bf16
from s2svos_engines.bundle import Bundle
from s2svos_engines.closed_loop import NetworkClip, mask_iou


@pytest.mark.parametrize("arithmetic", ["f32", "bf16"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", BUNDLES)
def test_calls_ahead_are_calls_in_turn(name: str, precision: str, arithmetic: str) -> None:
    """Of one object nothing is broadcast: kernels of OpenVINO's that no other number has."""
    if arithmetic == "bf16" and not has_bf16():
        pytest.skip("this processor does not compute in bf16")
    bundle = Bundle.open(bundle_path(name))
    engine = OpenVinoEngine(bundle, threads=2, precision=precision, arithmetic=arithmetic)
    size = {"height": bundle.contract.height, "width": bundle.contract.width}
    clip = NetworkClip.of(render(length=4, **size), bundle.contract)
    states = engine.init(clip.first, clip.first_masks[:1])
    frames = list(clip.frames)
    ahead, in_turn = engine.runner(states), engine.runner(states)
    calls = [ahead.submit([frame]) for frame in frames]
    for call, frame in zip(calls, frames, strict=True):
        (masks,), others = call.wait(), in_turn.step(frame)
        assert np.mean(mask_iou(masks, others)) > 0.98
        assert (others > 127).any()
