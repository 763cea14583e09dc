"""Closed-loop rollouts of a policy in simulation: many episodes at once, results, videos."""
