"""Module 5: what the system does in service, how far it has drifted, which alerts fire, how healthy it is."""
