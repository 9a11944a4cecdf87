"""Network to bundle: ONNX graphs, checked and compared with PyTorch.

Takes any ``torch.nn.Module`` that keeps the step contract (:class:`s2svos_export.graphs.Network`).
"""
