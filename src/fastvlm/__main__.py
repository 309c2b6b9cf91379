"""`python -m fastvlm`: the command line, for places where the script is not on the path."""

from fastvlm.cli.main import main

if __name__ == "__main__":
    main()
