"""Trained networks of four tasks, rebuilt from their state dicts, with samples to compress them by and their scores."""
