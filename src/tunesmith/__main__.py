"""`python -m tunesmith`: the command line where no script is installed, and under torchrun."""

from tunesmith.cli import main

main()
