"""What a network costs."""

from polyadic.costing.analytic import network_cost

__all__ = ["network_cost"]
