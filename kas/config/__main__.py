"""``python -m kas.config --markdown`` or ``--example``: what the documentation says about kas.yaml."""

from kas.config_reference import main

if __name__ == "__main__":
    main()
