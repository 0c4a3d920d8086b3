"""The `normal_` and `mean_square` ops, and the noise definition."""
