"""Chains that join forecasts, customers and texts; the assistant and the dashboard in front of them."""
