"""The leaf of the package: index vectors, rules (`Tile`, `Learned`), tensor specifications, noise keys."""
