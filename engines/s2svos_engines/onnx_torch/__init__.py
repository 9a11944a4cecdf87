"""ONNX graphs executed in PyTorch, for the reference engine and for tuning a bundle's weights."""
