"""Module 3: local services, the forecaster endpoint and the business API."""
