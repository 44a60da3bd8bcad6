"""Networks in ONNX files: read without running anything, computed by torch, written again with what was replaced."""
