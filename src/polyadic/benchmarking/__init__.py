"""Measured speed, memory and file size of networks on the engines that are installed."""

from polyadic.benchmarking.benchmark import benchmark
from polyadic.benchmarking.options import BenchOptions, BenchProgress
from polyadic.benchmarking.result import BENCH, BenchNetwork, BenchResult, BenchRow, write_bench

__all__ = [
    "BENCH",
    "BenchNetwork",
    "BenchOptions",
    "BenchProgress",
    "BenchResult",
    "BenchRow",
    "benchmark",
    "write_bench",
]
