"""Measured speed, memory and file size of networks on the engines that are installed."""

from polyadic.benchmarking.benchmark import benchmark, write_bench
from polyadic.benchmarking.options import BenchOptions, BenchProgress
from polyadic.schema import BenchNetwork, BenchResult, BenchRow

__all__ = [
    "BenchNetwork",
    "BenchOptions",
    "BenchProgress",
    "BenchResult",
    "BenchRow",
    "benchmark",
    "write_bench",
]
