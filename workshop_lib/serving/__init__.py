"""Module 3: models behind standard protocols, a business API in front, load, and releases without downtime."""
