"""Models: the catalogue of configured models and the life of each."""
