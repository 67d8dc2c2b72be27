"""Language models: weights, server, client, prompts, text quality, resource planning, benchmark."""
