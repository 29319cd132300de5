"""`python -m jaxcam.cli …`: the same entry point as the installed `jaxcam`."""

from jaxcam.cli import main

if __name__ == "__main__":
    main()
