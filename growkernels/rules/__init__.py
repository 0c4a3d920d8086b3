"""The leaf of the package: index vectors, learned maps, tensor specifications, noise keys."""
