"""What a network costs."""

from polyadic.costing.analytic import MACS_CONVENTION, network_cost
from polyadic.costing.latency import LatencyModel, Timer, timed_in_turns, with_random_weights
from polyadic.costing.latency_cache import LatencyCache, Measured, default_latency_directory
from polyadic.costing.time_curve import between

__all__ = [
    "MACS_CONVENTION",
    "LatencyCache",
    "LatencyModel",
    "Measured",
    "Timer",
    "between",
    "default_latency_directory",
    "network_cost",
    "timed_in_turns",
    "with_random_weights",
]
