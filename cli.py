"""`python cli.py …`: the same entry point as the installed `jaxcam` command."""

from jaxcam.cli import main

if __name__ == "__main__":
    main()
