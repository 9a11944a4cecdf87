"""Bundles for the conformance suite: small untrained networks, and a formula."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
from small_graphs import GRAPHS, PRECISIONS, small_contract, small_graph

from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.contract import StateSpec, StepContract
from s2svos_engines.registry import load_engine
from s2svos_export.calibrate import calibrate, calibration_samples
from s2svos_export.quantise import convolutions, quantise, quantise_for_gpu

__all__ = ["GRAPHS", "PRECISIONS"]


def written(
    path: Path,
    contract: StepContract,
    *,
    on_gpu: dict[str, dict[str, bytes]] | None = None,
    **graphs: dict[str, bytes],
) -> Bundle:
    write_bundle(path, contract=contract, graphs=graphs, gpu_graphs=on_gpu, facts={})
    return Bundle.open(path)


def small_bundle(path: Path) -> Bundle:
    """The ``lite`` design at 64x128 in all precisions, with ``step4`` and ``batch``."""
    contract = small_contract("lite")
    fp32, fp16 = ({g: small_graph("lite", g, p) for g in GRAPHS} for p in ("fp32", "fp16"))
    exact = load_engine(written(path, contract, fp32=fp32), "onnxruntime", threads=1)
    clip = render(length=36, height=contract.height, width=contract.width)
    calibrated = calibrate(fp32["step"], calibration_samples(exact, [clip]))
    weights = convolutions(fp32["step"])
    int8, on_gpu = (
        {g: model if g == "init" else form(model, calibrated, weights) for g, model in fp32.items()}
        for form in (quantise, quantise_for_gpu)
    )
    return written(path, contract, on_gpu={"int8": on_gpu}, fp32=fp32, fp16=fp16, int8=int8)


def small_paper_bundle(path: Path) -> Bundle:
    """The ``paper`` design at 64x128, in fp32."""
    graphs = {g: small_graph("paper", g) for g in ("init", "step")}
    return written(path, small_contract("paper"), fp32=graphs)


BLEND = {
    "init": """
        init (uint8[16, 16, 3] frame, uint8[objects, 16, 16] first_masks)
            => (float[objects, 16, 16] out_mask, float[16, 16] out_seen) {
            out_mask = Cast <to = 1> (first_masks)
            picture = Cast <to = 1> (frame)
            channels = Constant <value = int64[1] {2}> ()
            out_seen = ReduceMean <keepdims = 0> (picture, channels)
        }""",
    "step": """
        step (uint8[16, 16, 3] frame, float[objects, 16, 16] in_mask, float[16, 16] in_seen)
            => (uint8[objects, 16, 16] object_masks, float[objects, 16, 16] out_mask,
                float[16, 16] out_seen) {
            picture = Cast <to = 1> (frame)
            channels = Constant <value = int64[1] {2}> ()
            light = ReduceMean <keepdims = 0> (picture, channels)
            four = Constant <value = float {4.0}> ()
            sum = Sum (in_mask, in_mask, light, in_seen)
            out_mask = Div (sum, four)
            object_masks = Cast <to = 2> (out_mask)
            out_seen = Identity (in_seen)
        }""",
}


def blend_bundle(path: Path) -> Bundle:
    """A formula, not a network: ``mask = (2 mask + light + light of the first frame) / 4``.

    Quick enough for thousands of steps; the light of the first frame is a state that all objects
    share and that the graph passes on as it is.
    """
    states = StateSpec("mask", (16, 16)), StateSpec("seen", (16, 16), shared=True)
    head = '<ir_version: 9, opset_import: ["": 20]>'
    models = {name: onnx.parser.parse_model(head + text) for name, text in BLEND.items()}
    for model in models.values():
        onnx.checker.check_model(model, full_check=True)
    graphs = {name: model.SerializeToString() for name, model in models.items()}
    return written(path, StepContract(16, 16, states), fp32=graphs)
