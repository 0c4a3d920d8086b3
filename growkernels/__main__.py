"""`python -m growkernels`."""

from growkernels.cli import main

main()
