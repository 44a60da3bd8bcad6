"""Networks of every kind, and what Polyadic finds and does in each of them."""
