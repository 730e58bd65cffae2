"""Three models without downloads: two with the weights of ordinary packages, and one with random weights."""
