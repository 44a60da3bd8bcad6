"""Networks in ONNX files, as their publishers ship them or as we export them, with samples to compress them by."""
