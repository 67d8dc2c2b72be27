"""Module 5: the same answers for less: smaller models, a cache, and replicas that follow the load."""
