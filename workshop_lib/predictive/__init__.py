"""Module 1: features, the sales forecaster, the churn model, tracking and export."""
