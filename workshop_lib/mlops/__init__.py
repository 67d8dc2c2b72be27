"""Module 6: versions, releases, quality gates, security, governance, and what it all brings."""
