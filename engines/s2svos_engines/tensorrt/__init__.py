"""TensorRT and TensorRT-RTX: plans, how they are built, kept and run."""
